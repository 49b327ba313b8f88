/**
 * Arithmetic on 16-byte cipher blocks, as 32-bit words over whole buffers: what makes a buffer of sectors cost one
 * call of the cipher. The only place in this folder with bitwise operators.
 */
import { HOST_IS_LITTLE_ENDIAN } from '../../lib/bits.js';

export const SECTOR = 512;
export const BLOCK = 16;
const SECTOR_WORDS = SECTOR / 4;
export const BLOCK_WORDS = BLOCK / 4;
/** x^128 = x^7 + x^2 + x + 1, as IEEE 1619 has it. */
const FEEDBACK = 0x87;

/** The same memory as words; undefined where it does not begin at a multiple of four. */
export function wordsOf(bytes: Uint8Array): Int32Array | undefined {
  if (bytes.byteOffset % 4 !== 0) return undefined;
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** As `wordsOf`, of memory that its owner allocated. */
export function ownWords(bytes: Uint8Array): Int32Array {
  const words = wordsOf(bytes);
  if (words === undefined) throw new RangeError('memory that does not begin at a word');
  return words;
}

/** `into ^= other`, for what is short or stands anywhere. */
export function xorBytes(into: Uint8Array, other: Uint8Array): void {
  for (let i = 0; i < into.length; i++) into[i]! ^= other[i]!;
}

/** `into[i] = a[i] ^ b[i]` for the first `count` words. The arrays may be the same. */
export function xor(into: Int32Array, a: Int32Array, b: Int32Array, count: number): void {
  for (let i = 0; i < count; i++) into[i] = a[i]! ^ b[i]!;
}

/** Makes the encrypted numbers of sectors, a block each as the cipher yields them, what `maskWithTweaks` begins with. */
export function asTweaks(numbers: Int32Array): Int32Array {
  if (!HOST_IS_LITTLE_ENDIAN) Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength).swap32();
  return numbers;
}

/**
 * `into = from ^ tweaks` for `sectors` sectors (the arrays may be the same): from the first tweak of each sector, one
 * block for every block of it, each the one before multiplied by x in GF(2^128) (IEEE 1619, 5.2). Multiplying again
 * for the second mask is faster than reading stored tweaks: memory is what this waits for.
 */
export function maskWithTweaks(into: Int32Array, from: Int32Array, first: Int32Array, sectors: number): void {
  for (let sector = 0, i = 0; sector < sectors; sector++) {
    let a = first[sector * BLOCK_WORDS]!;
    let b = first[sector * BLOCK_WORDS + 1]!;
    let c = first[sector * BLOCK_WORDS + 2]!;
    let d = first[sector * BLOCK_WORDS + 3]!;
    for (const end = i + SECTOR_WORDS; i < end; i += BLOCK_WORDS) {
      into[i] = from[i]! ^ (HOST_IS_LITTLE_ENDIAN ? a : swapped(a));
      into[i + 1] = from[i + 1]! ^ (HOST_IS_LITTLE_ENDIAN ? b : swapped(b));
      into[i + 2] = from[i + 2]! ^ (HOST_IS_LITTLE_ENDIAN ? c : swapped(c));
      into[i + 3] = from[i + 3]! ^ (HOST_IS_LITTLE_ENDIAN ? d : swapped(d));
      const carry = (d >> 31) & FEEDBACK;
      d = (d << 1) | (c >>> 31);
      c = (c << 1) | (b >>> 31);
      b = (b << 1) | (a >>> 31);
      a = (a << 1) ^ carry;
    }
  }
}

/** The same block of every sector, side by side, each masked: `column = before ^ from`, which begins at word `word`. */
export function gatherMasked(column: Int32Array, before: Int32Array, from: Int32Array, word: number): void {
  for (let i = 0, at = word; i < column.length; i += BLOCK_WORDS, at += SECTOR_WORDS) {
    column[i] = before[i]! ^ from[at]!;
    column[i + 1] = before[i + 1]! ^ from[at + 1]!;
    column[i + 2] = before[i + 2]! ^ from[at + 2]!;
    column[i + 3] = before[i + 3]! ^ from[at + 3]!;
  }
}

/** Puts blocks that lie side by side into one sector each, at word `word` of it. */
export function scatter(into: Int32Array, column: Int32Array, word: number): void {
  for (let i = 0, at = word; i < column.length; i += BLOCK_WORDS, at += SECTOR_WORDS) {
    into[at] = column[i]!;
    into[at + 1] = column[i + 1]!;
    into[at + 2] = column[i + 2]!;
    into[at + 3] = column[i + 3]!;
  }
}

/**
 * Undoes the chaining of CBC in place: `bytes` holds ciphertext and becomes plaintext, `opened` is what the block
 * cipher made of it, `ivs` has a block for each sector. From the end, so that the ciphertext before is still there.
 */
export function unchain(bytes: Int32Array, opened: Int32Array, ivs: Int32Array, sectors: number): void {
  for (let sector = sectors - 1; sector >= 0; sector--) {
    const start = sector * SECTOR_WORDS;
    for (let i = start + SECTOR_WORDS - 1; i >= start + BLOCK_WORDS; i--) {
      bytes[i] = opened[i]! ^ bytes[i - BLOCK_WORDS]!;
    }
    for (let i = 0; i < BLOCK_WORDS; i++) bytes[start + i] = opened[start + i]! ^ ivs[sector * BLOCK_WORDS + i]!;
  }
}

function swapped(word: number): number {
  return (word << 24) | ((word << 8) & 0xff0000) | ((word >>> 8) & 0xff00) | (word >>> 24);
}
