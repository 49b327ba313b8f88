/**
 * The tables of qcow2, entry by entry: L1 and L2 entries, compressed clusters, refcounts. As in `../layout.ts` every
 * field is decoded in exactly one function. All numbers are big-endian.
 *
 * Tables are handed around as arrays of 32-bit words in host order; a 64-bit entry is the pair (high, low).
 */
import { bitAt, join64 } from '../../../lib/bits.js';

export const L1_ENTRY_BYTES = 8;

const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
const COPIED = 0x80000000;
const COMPRESSED = 0x40000000;
const DESCRIPTOR_HIGH = 0x3fffffff;
const ZERO = 1;
const L1_RESERVED_HIGH = 0x7f000000;
const L1_RESERVED_LOW = 0x1ff;
const L2_RESERVED_HIGH = 0x3f000000;
const L2_RESERVED_LOW = 0x1fe;
const HIGH_LIMIT = 2 ** 21;
const TWO_32 = 2 ** 32;

/**
 * What an L2 entry (or a subcluster of it) says. `...Allocated`: no data, yet host space is reserved for it.
 * `bad`: the entry contradicts the format.
 */
export const KIND = {
  hole: 0,
  holeAllocated: 1,
  zero: 2,
  zeroAllocated: 3,
  data: 4,
  compressed: 5,
  bad: 6,
} as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** Whether nothing else refers to what an L1 or L2 entry points to, so that it may be changed where it is. */
export function isCopied(high: number): boolean {
  return (high & COPIED) !== 0;
}

/** The high word of an entry with its COPIED flag set or cleared. */
export function withCopied(high: number, copied: boolean): number {
  return copied ? (high | COPIED) >>> 0 : (high & ~COPIED) >>> 0;
}

/** The high word of an entry that points to `offset` and owns it; the low word is `offset % 2^32`. */
export function ownedHigh(offset: number): number {
  return (Math.floor(offset / TWO_32) | COPIED) >>> 0;
}

export function isCompressed(high: number): boolean {
  return (high & COMPRESSED) !== 0;
}

/** The low word of a standard entry that reads as zeros, keeping the place it has. */
export function withZeroFlag(low: number): number {
  return (low | ZERO) >>> 0;
}

/** Bits `first` to `end - 1` of half of a subcluster bitmap. */
export function subclusterBits(first: number, end: number): number {
  return (((2 ** (end - first) - 1) >>> 0) * 2 ** first) >>> 0;
}

/** `bits` with those of `mask` set. */
export function setBits(bits: number, mask: number): number {
  return (bits | mask) >>> 0;
}

/** `bits` with those of `mask` cleared. */
export function clearBits(bits: number, mask: number): number {
  return (bits & ~mask) >>> 0;
}

/** The rules by which L2 entries are read; they differ by version and features. */
export interface EntryRules {
  /** Bit 0 means "reads as zeros": version 3 without extended entries. Reserved elsewhere. */
  readonly zeroFlag: boolean;
  /** Data lies in an external file, where offset 0 is valid if the entry is marked as copied. */
  readonly external: boolean;
  /** clusterSize - 1 */
  readonly clusterMask: number;
}

/** Bits 9 to 55 of an L1 or L2 entry; NaN past 2^53. */
export function entryOffset(high: number, low: number): number {
  const top = high & OFFSET_HIGH;
  return top < HIGH_LIMIT ? top * TWO_32 + ((low & OFFSET_LOW) >>> 0) : Number.NaN;
}

/** Whether reserved bits of an L1 entry or of a standard L2 entry (not compressed) are set. */
export function hasReservedBits(high: number, low: number, level: 'l1' | 'l2'): boolean {
  return level === 'l1'
    ? (high & L1_RESERVED_HIGH) !== 0 || (low & L1_RESERVED_LOW) !== 0
    : (high & L2_RESERVED_HIGH) !== 0 || (low & L2_RESERVED_LOW) !== 0;
}

/** Whether some subcluster of an extended L2 entry is allocated and reads as zeros at once: a contradiction. */
export function allocatedAndZero(zeros: number, allocated: number): boolean {
  return (zeros & allocated) !== 0;
}

/** Whether an offset field holds anything: 0 means not allocated. */
export function hasOffset(high: number, low: number): boolean {
  return ((high & OFFSET_HIGH) | (low & OFFSET_LOW)) !== 0;
}

/** Whether an offset field (perhaps 0) is aligned to the cluster and below 2^53. */
export function wellPlaced(high: number, low: number, clusterMask: number): boolean {
  return (low & OFFSET_LOW & clusterMask) === 0 && (high & OFFSET_HIGH) < HIGH_LIMIT;
}

/** What a standard (64-bit) L2 entry says about its cluster. */
export function standardKind(high: number, low: number, rules: EntryRules): Kind {
  if ((high & COMPRESSED) !== 0) return rules.external ? KIND.bad : KIND.compressed;
  if (!wellPlaced(high, low, rules.clusterMask)) return KIND.bad;
  const placed = hasOffset(high, low);
  if ((low & ZERO) !== 0) return rules.zeroFlag ? (placed ? KIND.zeroAllocated : KIND.zero) : KIND.bad;
  if (placed || (rules.external && (high & COPIED) !== 0)) return KIND.data;
  return KIND.hole;
}

/**
 * What an extended (128-bit) L2 entry says about subcluster `n`: `zeros` and `allocated` are the high and low half of
 * its bitmap. A subcluster that is both, or allocated in a cluster without a place, makes the whole entry bad.
 */
export function extendedKind(
  high: number,
  low: number,
  zeros: number,
  allocated: number,
  n: number,
  rules: EntryRules,
): Kind {
  if ((high & COMPRESSED) !== 0) return rules.external ? KIND.bad : KIND.compressed;
  if (!wellPlaced(high, low, rules.clusterMask)) return KIND.bad;
  const zero = bitAt(zeros, n);
  if (hasOffset(high, low) || (rules.external && (high & COPIED) !== 0)) {
    if ((zeros & allocated) !== 0) return KIND.bad;
    if (zero) return KIND.zeroAllocated;
    return bitAt(allocated, n) ? KIND.data : KIND.holeAllocated;
  }
  if (allocated !== 0) return KIND.bad;
  return zero ? KIND.zero : KIND.hole;
}

/** Whether an extended entry maps all of its subclusters to data: the common case, told without looking at each. */
export function storesAll(high: number, low: number, zeros: number, allocated: number, rules: EntryRules): boolean {
  return (
    zeros === 0 &&
    allocated === 0xffffffff &&
    (high & COMPRESSED) === 0 &&
    hasOffset(high, low) &&
    wellPlaced(high, low, rules.clusterMask)
  );
}

/** Where a compressed cluster's bytes lie. Not aligned to anything; the length is rounded up to whole sectors. */
export interface PackedPlace {
  readonly offset: number;
  readonly length: number;
}

/**
 * Decodes a compressed cluster descriptor: offset in bits 0 to x-1, count of further sectors in bits x to 61, with
 * x = 62 - (cluster_bits - 8). Throws `corrupt` past 2^53.
 */
export function decodePacked(high: number, low: number, clusterBits: number, what: string): PackedPlace {
  const split = 62 - (clusterBits - 8) - 32;
  const descriptor = high & DESCRIPTOR_HIGH;
  const offset = join64(descriptor & (2 ** split - 1), low, what);
  const sectors = (descriptor >>> split) + 1;
  return { offset, length: sectors * 512 - (low & 511) };
}

// --- refcounts -----------------------------------------------------------------------------------------------------

export const REFCOUNT_TABLE_ENTRY_BYTES = 8;

/** Offset of a refcount block: bits 9 to 63 of a refcount table entry; NaN past 2^53. */
export function refcountBlockOffset(high: number, low: number): number {
  return high < HIGH_LIMIT ? high * TWO_32 + ((low & OFFSET_LOW) >>> 0) : Number.NaN;
}

/** Entry `n` of a refcount block, `bits` (1 to 64, a power of two) wide. Widths below 8 fill bytes from bit 0 up. */
export function decodeRefcount(block: Buffer, n: number, bits: number): number {
  if (bits === 16) return block.readUInt16BE(n * 2);
  if (bits < 8) {
    const perByte = 8 / bits;
    return (block.readUInt8(Math.floor(n / perByte)) >>> ((n % perByte) * bits)) & (2 ** bits - 1);
  }
  if (bits === 8) return block.readUInt8(n);
  if (bits === 32) return block.readUInt32BE(n * 4);
  return block.readUInt32BE(n * 8) * TWO_32 + block.readUInt32BE(n * 8 + 4);
}

/** Sets entry `n` of a refcount block. `value` fits the width. */
export function encodeRefcount(block: Buffer, n: number, bits: number, value: number): void {
  if (bits === 16) block.writeUInt16BE(value, n * 2);
  else if (bits < 8) {
    const perByte = 8 / bits;
    const at = Math.floor(n / perByte);
    const shift = (n % perByte) * bits;
    block.writeUInt8((block.readUInt8(at) & ~((2 ** bits - 1) << shift) & 255) | (value << shift), at);
  } else if (bits === 8) block.writeUInt8(value, n);
  else if (bits === 32) block.writeUInt32BE(value, n * 4);
  else {
    block.writeUInt32BE(Math.floor(value / TWO_32), n * 8);
    block.writeUInt32BE(value % TWO_32, n * 8 + 4);
  }
}
