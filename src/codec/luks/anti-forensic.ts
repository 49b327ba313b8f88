/**
 * The anti-forensic splitter (LUKS On-Disk Format Specification, 2.4): a key is spread over so many stripes that
 * losing a few bits of any of them loses the key, so that a medium which forgets badly forgets well enough.
 */
import { createHash } from 'node:crypto';
import { xorBytes } from '../crypt/blocks.js';
import { HASHES } from './ciphers.js';

/** `stripes` times as many bytes as `key`. `random` gives fresh random bytes; the key stays its owner's. */
export function afSplit(key: Uint8Array, stripes: number, hash: string, random: (count: number) => Buffer): Buffer {
  const split = Buffer.alloc(key.length * stripes);
  const mixed = Buffer.alloc(key.length);
  for (let n = 0; n < stripes - 1; n++) {
    const stripe = random(key.length);
    stripe.copy(split, n * key.length);
    xorBytes(mixed, stripe);
    diffuse(mixed, hash);
  }
  xorBytes(mixed, key);
  mixed.copy(split, (stripes - 1) * key.length);
  mixed.fill(0);
  return split;
}

/** The key of `keyBytes` bytes, which the caller wipes. */
export function afMerge(split: Uint8Array, keyBytes: number, stripes: number, hash: string): Buffer {
  const mixed = Buffer.alloc(keyBytes);
  for (let n = 0; n < stripes; n++) {
    xorBytes(mixed, split.subarray(n * keyBytes, (n + 1) * keyBytes));
    if (n < stripes - 1) diffuse(mixed, hash);
  }
  return mixed;
}

/** Each piece as long as the hash's digest becomes the digest of its number and itself; the last may be shorter. */
function diffuse(block: Buffer, hash: string): void {
  const number = Buffer.alloc(4);
  for (let at = 0, n = 0; at < block.length; n++) {
    number.writeUInt32BE(n);
    const piece = block.subarray(at, at + digestBytes(hash));
    const digest = createHash(hash).update(number).update(piece).digest();
    digest.copy(piece);
    at += piece.length;
  }
}

function digestBytes(hash: string): number {
  const bytes = HASHES[hash];
  if (bytes === undefined) throw new RangeError(`no hash is called ${hash}`);
  return bytes;
}
