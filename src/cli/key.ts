import { describeLuks } from '../codec/luks/describe.js';
import { addKey, removeKey } from '../codec/luks/key-slots.js';
import type { HeaderFields } from '../codec/luks/layout.js';
import { type Unlocked, unlock } from '../codec/luks/unlock.js';
import { iterationsFor } from '../codec/luks/work.js';
import { formats } from '../formats/index.js';
import { withKeySlots } from '../image/key-slots.js';
import { ImgfsError } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { randomBytes } from '../lib/random.js';
import type { Storage } from '../storage/storage.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { NewPassphrase } from './new-passphrase.js';
import { declarePasswordOption } from './open-options.js';
import { note, print, warn } from './output.js';
import { GivenPassphrases } from './passphrases.js';
import { OWN_CODES, type Verb } from './verb.js';

interface KeyFlags extends JsonFlags {
  readonly format?: string;
  readonly passwordFile?: readonly string[];
  readonly newPasswordFile?: string;
  readonly slot?: number;
  readonly iterTime: number;
  readonly force?: true;
}

const ACTIONS = { list, add, remove } as const;
const DEFAULT_MILLISECONDS = 2000;

/** `imgfs key`: the key slots of a LUKS container, or of a qcow2 image that has them. Of one that nobody has open. */
export const verb: Verb = {
  exitCodes: OWN_CODES,
  declare(command) {
    command
      .argument('<action>', 'list, add or remove')
      .argument('<image>', 'the image')
      .option('-f, --format <fmt>', 'the format of the image, instead of looking')
      .option('--slot <n>', 'that slot: to add to, by default the first free one, or to remove', slotNumber)
      .option('--new-password-file <file>', 'the passphrase to add ("-": from standard input)')
      .option(
        '--iter-time <ms>',
        'how long a guess at the new passphrase shall take',
        milliseconds,
        DEFAULT_MILLISECONDS,
      )
      .option('--force', 'remove the last slot too: nothing opens the image then, ever');
    declarePasswordOption(command);
    declareJsonOptions(command);
  },
  run(command) {
    const flags = command.opts<KeyFlags>();
    const [name = '', path = ''] = command.args;
    const action = Object.entries(ACTIONS).find(([one]) => one === name)?.[1];
    if (action === undefined) throw new ImgfsError('usage', `"${name}" is no action`, { hint: 'list, add or remove' });
    const writable = action !== list;
    withKeySlots(path, { formats, format: flags.format, writable, warn }, (head, header) =>
      action({ path, flags, head, header }),
    );
    return 0;
  },
};

interface Job {
  readonly path: string;
  readonly flags: KeyFlags;
  /** Begins with the header. */
  readonly head: Storage;
  readonly header: HeaderFields;
}

function list({ path, flags, header }: Job): void {
  if (wantsJson(flags)) {
    print(jsonText({ schema: 'imgfs.keys/1', filename: path, ...describeLuks(header) }));
    return;
  }
  const lines = header.slots.map(({ state, iterations }, n) =>
    state === 'active' ? `${n}  in use, ${iterations} iterations\n` : `${n}  free\n`,
  );
  print(lines.join(''));
}

/** Needs a passphrase that opens the image already. */
function add({ path, flags, head, header }: Job): void {
  const files = flags.newPasswordFile === undefined ? [] : [flags.newPasswordFile];
  const fresh = new NewPassphrase(path, { passwordFile: files }, new Map(), '--new-password-file');
  const { key } = opened({ path, flags, head, header });
  try {
    const iterations = iterationsFor(header.hash, header.keyBytes, flags.iterTime, processorTime);
    const making = { random: randomBytes, iterations };
    const slot = addKey(head, header, { slot: flags.slot, key, passphrase: fresh.read(), making });
    note(`slot ${slot} opens ${path} now`);
  } finally {
    key.fill(0);
    fresh.wipe();
  }
}

/** By its number, or the one that a passphrase opens. */
function remove({ path, flags, head, header }: Job): void {
  let { slot } = flags;
  if (slot === undefined) {
    const found = opened({ path, flags, head, header });
    found.key.fill(0);
    slot = found.slot;
  }
  const active = header.slots.filter(({ state }) => state === 'active').length;
  if (active === 1 && header.slots[slot]?.state === 'active' && flags.force !== true) {
    throw new ImgfsError('refused', `slot ${slot} is the last of ${path}: without it nothing opens the image`, {
      hint: 'add another first, or --force',
    });
  }
  removeKey(head, header, slot, randomBytes);
  note(`slot ${slot} of ${path} is free now`);
}

function opened({ path, flags, head, header }: Job): Unlocked {
  const given = new GivenPassphrases(flags.passwordFile ?? []);
  try {
    const found = unlock(head, header, given.of(path));
    if (found === undefined) throw new ImgfsError('passphrase', `${path}: wrong passphrase`);
    return found;
  } finally {
    given.wipe();
  }
}

function slotNumber(text: string): number {
  if (/^[0-7]$/.test(text)) return Number(text);
  throw new ImgfsError('usage', `"${text}" is no key slot`, { hint: 'they are 0 to 7' });
}

function milliseconds(text: string): number {
  if (/^\d{1,6}$/.test(text) && Number(text) > 0) return Number(text);
  throw new ImgfsError('usage', `"${text}" is no number of milliseconds`);
}

function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
