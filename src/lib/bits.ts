/**
 * Reading integers out of on-disk bytes. JavaScript's bitwise operators are 32-bit and signed, and numbers are exact
 * only up to 2^53: this file and each format's `layout.ts` are the only places that may use the operators.
 */
import { corrupt } from './errors.js';

const TWO_32 = 2 ** 32;
const HIGH_LIMIT = 2 ** 21;

/** Whether `bits` has every bit of `mask` set. Both are unsigned 32-bit values. */
export function hasBits(bits: number, mask: number): boolean {
  return (bits & mask) >>> 0 === mask >>> 0;
}

/** Bit `n` (0 to 31, 0 is the least significant) of an unsigned 32-bit value. */
export function bitAt(bits: number, n: number): boolean {
  return ((bits >>> n) & 1) === 1;
}

/** Joins two unsigned 32-bit halves; a value past 2^53 cannot be represented and is refused as `corrupt`. */
export function join64(high: number, low: number, what: string): number {
  if (high >= HIGH_LIMIT) throw corrupt(`${what} is beyond 2^53`);
  return high * TWO_32 + low;
}

/** Big-endian unsigned 64-bit field at `at`. Throws `corrupt` past 2^53; `what` names the field in the message. */
export function readU64BE(from: Buffer, at: number, what: string): number {
  return join64(from.readUInt32BE(at), from.readUInt32BE(at + 4), what);
}

/** Little-endian unsigned 64-bit field at `at`. Throws `corrupt` past 2^53; `what` names the field in the message. */
export function readU64LE(from: Buffer, at: number, what: string): number {
  return join64(from.readUInt32LE(at + 4), from.readUInt32LE(at), what);
}

/** Writes a little-endian unsigned 64-bit field at `at`. `value` is at most 2^53. */
export function writeU64LE(into: Buffer, value: number, at: number): void {
  into.writeUInt32LE(value % TWO_32, at);
  into.writeUInt32LE(Math.floor(value / TWO_32), at + 4);
}

/** Whether words in memory begin with their least significant byte. */
export const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * Turns big-endian 32-bit words into numbers, in place, and returns a view of the same memory: for tables that are
 * looked into far more often than they are read. `bytes` is a multiple of 4 long and starts its own memory.
 */
export function bigEndianWords(bytes: Uint8Array): Uint32Array {
  if (HOST_IS_LITTLE_ENDIAN) asBuffer(bytes).swap32();
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** As `bigEndianWords`, of little-endian words. */
export function littleEndianWords(bytes: Uint8Array): Uint32Array {
  if (!HOST_IS_LITTLE_ENDIAN) asBuffer(bytes).swap32();
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/** `value` rounded down to a multiple of `unit`. Exact up to 2^53. */
export function roundDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** `value` rounded up to a multiple of `unit`. Exact up to 2^53. */
export function roundUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + (unit - rest);
}

/** Whether `value` is 1, 2, 4, ... */
export function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value));
}

/** A view of the same bytes with Buffer's readers; copies nothing. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The two halves of a Linux device number, as /proc and /sys print them. */
export function deviceNumbers(device: bigint): { readonly major: number; readonly minor: number } {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return { major: Number(major), minor: Number(minor) };
}

const PAGE_BITS = 32_768;
const ALL_BITS = 2 ** 32 - 1;

/** A set of numbers that lie in clumps (clusters that hold tables), as pages of bits. */
export class BitPages {
  private readonly pages = new Map<number, Uint32Array>();

  add(n: number): void {
    const page = Math.floor(n / PAGE_BITS);
    let bits = this.pages.get(page);
    if (bits === undefined) {
      bits = new Uint32Array(PAGE_BITS / 32);
      this.pages.set(page, bits);
    }
    const within = n % PAGE_BITS;
    bits[within >>> 5]! |= 1 << (within & 31);
  }

  delete(n: number): void {
    const bits = this.pages.get(Math.floor(n / PAGE_BITS));
    const within = n % PAGE_BITS;
    if (bits !== undefined) bits[within >>> 5]! &= ~(1 << (within & 31));
  }

  has(n: number): boolean {
    const bits = this.pages.get(Math.floor(n / PAGE_BITS));
    const within = n % PAGE_BITS;
    return bits !== undefined && ((bits[within >>> 5]! >>> (within & 31)) & 1) === 1;
  }

  /** The numbers in it as runs, ascending; runs end at page boundaries at the latest, so neighbours may touch. */
  *runs(): Generator<{ readonly first: number; readonly count: number }> {
    for (const page of [...this.pages.keys()].sort((a, b) => a - b)) {
      const bits = this.pages.get(page)!;
      let first = -1;
      for (let n = 0; n <= PAGE_BITS; n++) {
        const word = n < PAGE_BITS ? bits[n >>> 5]! : 0;
        // Whole words that change nothing are passed at once.
        if ((n & 31) === 0 && n < PAGE_BITS && word === (first < 0 ? 0 : ALL_BITS)) n += 31;
        else if (((word >>> (n & 31)) & 1) === 1) first = first < 0 ? n : first;
        else if (first >= 0) {
          yield { first: page * PAGE_BITS + first, count: n - first };
          first = -1;
        }
      }
    }
  }
}

/** Big-endian bytes of 32-bit numbers: the way back from `bigEndianWords`, into memory of their own. */
export function bigEndianBytes(words: Uint32Array): Buffer {
  const bytes = Buffer.from(words.slice().buffer);
  return HOST_IS_LITTLE_ENDIAN ? bytes.swap32() : bytes;
}

/** Little-endian bytes of 32-bit numbers: the way back from `littleEndianWords`, into memory of their own. */
export function littleEndianBytes(words: Uint32Array): Buffer {
  const bytes = Buffer.from(words.slice().buffer);
  return HOST_IS_LITTLE_ENDIAN ? bytes : bytes.swap32();
}
