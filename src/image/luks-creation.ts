/** Making LUKS headers: qemu-img's options for them, which formats offer under a prefix of their own. */
import { assertHash, cipherOf, HASHES } from '../codec/luks/ciphers.js';
import { formatLuks, type NewLuks } from '../codec/luks/format.js';
import { iterationsFor } from '../codec/luks/work.js';
import type { Storage } from '../storage/storage.js';
import {
  type CreateContext,
  type CreateOption,
  choiceOption,
  numberOption,
  type OptionValues,
  textOption,
} from './creation.js';

const CIPHERS = { 'aes-128': 16, 'aes-192': 24, 'aes-256': 32 } as const;
const DEFAULT_MILLISECONDS = 2000;
const HASH_NAMES = Object.keys(HASHES);

/** The options, `encrypt.cipher-alg` and the like with the prefix `encrypt.`. */
export function luksOptions(prefix: string) {
  return {
    keySecret: textOption(`${prefix}key-secret`, 'ID of the --object secret that holds the passphrase'),
    cipher: choiceOption(
      `${prefix}cipher-alg`,
      'the cipher',
      Object.keys(CIPHERS) as (keyof typeof CIPHERS)[],
      'aes-256',
    ),
    mode: choiceOption(`${prefix}cipher-mode`, 'its mode', ['xts', 'cbc'], 'xts'),
    generator: choiceOption(
      `${prefix}ivgen-alg`,
      'how sectors are told apart',
      ['plain64', 'plain', 'essiv'],
      'plain64',
    ),
    generatorHash: choiceOption(`${prefix}ivgen-hash-alg`, 'the hash function of essiv', HASH_NAMES, 'sha256'),
    hash: choiceOption(`${prefix}hash-alg`, 'the hash function of the key slots', HASH_NAMES, 'sha256'),
    time: numberOption(
      `${prefix}iter-time`,
      'milliseconds that one guess at the passphrase shall take',
      DEFAULT_MILLISECONDS,
    ),
  } as const;
}

export type LuksOptions = ReturnType<typeof luksOptions>;

/** In the order of the help. */
export function listed(options: LuksOptions): readonly CreateOption[] {
  return Object.values(options);
}

/** What a header will be, known before it is made. Throws `unsupported` for a hash that cannot be used there. */
export function wantedLuks(values: OptionValues, options: LuksOptions, name: string): NewLuks {
  const mode = values.get(options.mode);
  const generator = values.get(options.generator);
  const hash = values.get(options.hash);
  const bytes = CIPHERS[values.get(options.cipher)];
  const keyBytes = mode === 'xts' ? 2 * bytes : bytes;
  const full = generator === 'essiv' ? `${mode}-essiv:${values.get(options.generatorHash)}` : `${mode}-${generator}`;
  cipherOf({ cipher: 'aes', mode: full, keyBytes }, name);
  assertHash(hash, name);
  return { mode: full, keyBytes, hash };
}

/** Makes the header at the start of `storage`, with the context's passphrase in its first slot, durable on return. */
export function makeLuks(storage: Storage, wanted: NewLuks, milliseconds: number, context: CreateContext): void {
  const iterations = iterationsFor(wanted.hash, wanted.keyBytes, milliseconds, () => context.processorTime());
  const making = { random: (count: number) => context.randomBytes(count), iterations };
  formatLuks(storage, wanted, context.passphrase(), making).fill(0);
}
