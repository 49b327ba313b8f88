import { getHashes } from 'node:crypto';
import { ImgfsError } from '../../lib/errors.js';
import { AES_KEY_BYTES } from '../crypt/aes.js';
import type { IvGenerator } from '../crypt/initial-vectors.js';
import { type CipherSpec, keyBytesOf } from '../crypt/sector-cipher.js';

/** Hash functions by their LUKS names, with the bytes of their digests. */
export const HASHES: Readonly<Record<string, number>> = {
  sha1: 20,
  sha224: 28,
  sha256: 32,
  sha384: 48,
  sha512: 64,
  ripemd160: 20,
};

const GENERATORS: readonly IvGenerator[] = ['plain', 'plain64', 'essiv'];

/** What a header says about its cipher, in the words of qemu-img. */
export interface CipherNames {
  readonly cipher: string;
  readonly mode: string;
  readonly keyBytes: number;
}

/**
 * The cipher a header names. Throws `unsupported` with its name where it is none of ours, `corrupt` where the length of
 * the key does not suit it.
 */
export function cipherOf({ cipher, mode, keyBytes }: CipherNames, name: string): CipherSpec {
  const [block = '', generator = '', generatorHash] = mode.split(/[-:]/);
  const full = `${cipher}-${mode}`;
  const known = GENERATORS.find((one) => one === generator);
  if (cipher !== 'aes' || (block !== 'xts' && block !== 'cbc') || known === undefined) {
    throw new ImgfsError('unsupported', `${name}: encrypted with ${full}, which imgfs does not know`, {
      hint: 'it knows aes in the modes xts and cbc',
    });
  }
  if (!keyBytesOf(block).includes(keyBytes)) {
    throw new ImgfsError('corrupt', `${name}: ${full} with a key of ${keyBytes} bytes`);
  }
  if (known !== 'essiv') return { mode: block, generator: known };
  assertHash(generatorHash ?? '', name);
  if (!AES_KEY_BYTES.includes(HASHES[generatorHash ?? ''] ?? 0)) {
    throw new ImgfsError('unsupported', `${name}: ${full}: no cipher has a key as long as ${generatorHash} yields`);
  }
  return { mode: block, generator: known, generatorHash };
}

/** Throws `unsupported` for a hash function we do not know, `system` for one that this OpenSSL lacks. */
export function assertHash(hash: string, name: string): void {
  if (HASHES[hash] === undefined) {
    throw new ImgfsError('unsupported', `${name}: the hash function ${hash} is not known`);
  }
  if (!getHashes().includes(hash)) {
    throw new ImgfsError('system', `${name}: needs ${hash}, which this build of Node.js lacks`);
  }
}
