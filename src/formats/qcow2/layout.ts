/**
 * The on-disk structures of qcow2: every field is decoded in exactly one function of this file. All numbers are
 * big-endian. Specification: docs/interop/qcow2 of QEMU.
 *
 * Tables are handed around as arrays of 32-bit words in host order; a 64-bit entry is the pair (high, low).
 */
import { bitAt, join64, readU64BE } from '../../lib/bits.js';

const MIB = 1024 * 1024;

/** "QFI\xfb" */
export const MAGIC = 0x514649fb;

/** Bytes of the header up to which the version decides: 72 in version 2, at least 104 in version 3. */
export const HEADER_BYTES = { version2: 72, version3: 104, known: 112 } as const;

/** What is accepted at most; QEMU's own limits, so that an image either of us can open the other can too. */
export const MAX = {
  clusterBits: 21,
  refcountOrder: 6,
  l1Bytes: 32 * MIB,
  refcountTableBytes: 8 * MIB,
  snapshots: 65_536,
  /** QEMU reads 64 MiB, yet writes less than this: 65,536 entries with the longest name it takes and ids by number. */
  snapshotTableBytes: 24 * MIB,
  snapshotExtraBytes: 1024,
  backingNameBytes: 1023,
  /** Ours: a header cluster of 2 MiB has room for 262,144 empty ones, which nobody writes. */
  extensions: 1024,
  bitmaps: 65_535,
  bitmapDirectoryBytes: 64 * MIB,
  bitmapNameBytes: 1023,
} as const;

export const MIN_CLUSTER_BITS = 9;
/** Extended L2 entries cut a cluster in 32; a subcluster is at least one sector. */
export const SUBCLUSTERS = 32;
export const MIN_EXTENDED_CLUSTER_BITS = 14;
export const L1_ENTRY_BYTES = 8;

/** Bit numbers in the incompatible, compatible and autoclear feature fields. */
export const INCOMPATIBLE = { dirty: 0, corrupt: 1, dataFile: 2, compressionType: 3, extendedL2: 4 } as const;
export const COMPATIBLE = { lazyRefcounts: 0 } as const;
export const AUTOCLEAR = { bitmaps: 0, dataFileRaw: 1 } as const;
const FIRST_UNKNOWN_INCOMPATIBLE = 5;

export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  crypto: 0x0537be77,
  dataFile: 0x44415441,
} as const;

/** A field of 64 feature bits. */
export interface Features {
  readonly high: number;
  readonly low: number;
}

/** The header as stored; nothing is checked yet except that 64-bit fields are exact. */
export interface HeaderFields {
  readonly version: number;
  readonly backingAt: number;
  readonly backingBytes: number;
  readonly clusterBits: number;
  readonly size: number;
  readonly cryptMethod: number;
  readonly l1Entries: number;
  readonly l1At: number;
  readonly refcountTableAt: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsAt: number;
  readonly incompatible: Features;
  readonly compatible: Features;
  readonly autoclear: Features;
  readonly refcountOrder: number;
  readonly headerBytes: number;
  readonly compressionType: number;
}

/** Decodes the magic and the version. */
export function decodeSignature(from: Buffer): { readonly magic: number; readonly version: number } {
  return { magic: from.readUInt32BE(0), version: from.readUInt32BE(4) };
}

/** Bytes of the header cluster; 0 where the header does not tell (it is cut short, or its value is impossible). */
export function probedClusterSize(head: Buffer): number {
  const bits = head.length < HEADER_BYTES.version2 ? 0 : head.readUInt32BE(20);
  return bits >= MIN_CLUSTER_BITS && bits <= MAX.clusterBits ? 2 ** bits : 0;
}

/** Decodes a header of `HEADER_BYTES.known` bytes, of which a version 2 image has only the first 72. */
export function decodeHeader(from: Buffer, name: string): HeaderFields {
  const u64 = (at: number, what: string): number => readU64BE(from, at, `${name}: the ${what}`);
  const version = from.readUInt32BE(4);
  const extra = version >= 3;
  const headerBytes = extra ? from.readUInt32BE(100) : HEADER_BYTES.version2;
  return {
    version,
    backingAt: u64(8, 'offset of the backing file name'),
    backingBytes: from.readUInt32BE(16),
    clusterBits: from.readUInt32BE(20),
    size: u64(24, 'disk size'),
    cryptMethod: from.readUInt32BE(32),
    l1Entries: from.readUInt32BE(36),
    l1At: u64(40, 'offset of the L1 table'),
    refcountTableAt: u64(48, 'offset of the refcount table'),
    refcountTableClusters: from.readUInt32BE(56),
    snapshotCount: from.readUInt32BE(60),
    snapshotsAt: u64(64, 'offset of the snapshot table'),
    incompatible: extra ? features(from, 72) : NO_FEATURES,
    compatible: extra ? features(from, 80) : NO_FEATURES,
    autoclear: extra ? features(from, 88) : NO_FEATURES,
    refcountOrder: extra ? from.readUInt32BE(96) : 4,
    headerBytes,
    compressionType: headerBytes > 104 ? from.readUInt8(104) : 0,
  };
}

const NO_FEATURES: Features = { high: 0, low: 0 };

function features(from: Buffer, at: number): Features {
  return { high: from.readUInt32BE(at), low: from.readUInt32BE(at + 4) };
}

export function hasFeature(field: Features, bit: number): boolean {
  return bit < 32 ? bitAt(field.low, bit) : bitAt(field.high, bit - 32);
}

/** The incompatible bits that are set and that we do not know, ascending. */
export function unknownIncompatible(field: Features): number[] {
  const bits: number[] = [];
  for (let bit = FIRST_UNKNOWN_INCOMPATIBLE; bit < 64; bit++) if (hasFeature(field, bit)) bits.push(bit);
  return bits;
}

/** Byte of the header that holds an incompatible feature bit, and its value there: what a recipe has to set. */
export function incompatibleByte(bit: number): { readonly at: number; readonly value: number } {
  return { at: 79 - Math.floor(bit / 8), value: 1 << (bit % 8) };
}

/** The byte of the header that `incompatibleByte` names for both damage bits, with these two cleared. */
export function withoutDamageBits(byte: number): number {
  return byte & ~((1 << INCOMPATIBLE.dirty) | (1 << INCOMPATIBLE.corrupt));
}

/** One header extension's frame; the data follows, padded to a multiple of 8. */
export const EXTENSION_HEADER_BYTES = 8;

export function decodeExtensionHeader(from: Buffer, at: number): { readonly type: number; readonly length: number } {
  return { type: from.readUInt32BE(at), length: from.readUInt32BE(at + 4) };
}

/** One entry of the feature name table: which field (0 incompatible), which bit, what it is called. */
export const FEATURE_NAME_BYTES = 48;

export function decodeFeatureName(
  from: Buffer,
  at: number,
): { readonly field: number; readonly bit: number; readonly name: Buffer } {
  return { field: from.readUInt8(at), bit: from.readUInt8(at + 1), name: from.subarray(at + 2, at + 48) };
}

export const BITMAPS_EXTENSION_BYTES = 24;

export interface BitmapsClaim {
  readonly count: number;
  readonly bytes: number;
  readonly at: number;
}

export function decodeBitmapsExtension(from: Buffer, name: string): BitmapsClaim {
  return {
    count: from.readUInt32BE(0),
    bytes: readU64BE(from, 8, `${name}: the size of the bitmap directory`),
    at: readU64BE(from, 16, `${name}: the offset of the bitmap directory`),
  };
}

export const CRYPTO_EXTENSION_BYTES = 16;

/** Where the encryption header (LUKS) lies in the image. */
export interface CryptoClaim {
  readonly at: number;
  readonly bytes: number;
}

export function decodeCryptoExtension(from: Buffer, name: string): CryptoClaim {
  return {
    at: readU64BE(from, 0, `${name}: the offset of the encryption header`),
    bytes: readU64BE(from, 8, `${name}: the length of the encryption header`),
  };
}

// --- L1 and L2 entries ---------------------------------------------------------------------------------------------

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

/** What is left of `field` when only these bits may stay. All are below 32. */
export function keptFeatures(field: Features, bits: readonly number[]): Features {
  return { high: 0, low: bits.reduce((kept, bit) => kept | (field.low & (1 << bit)), 0) >>> 0 };
}

/** Where the flags of a bitmap's directory entry lie in it, and the flags with "in use" added. */
export const BITMAP_FLAGS_AT = 12;

export function inUseFlags(flags: number): number {
  return (flags | 1) >>> 0;
}

// --- snapshot table and bitmap directory ---------------------------------------------------------------------------

export const SNAPSHOT_HEADER_BYTES = 40;

export interface SnapshotFields {
  readonly l1At: number;
  readonly l1Entries: number;
  readonly idBytes: number;
  readonly nameBytes: number;
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly vmClockNanoseconds: bigint;
  readonly vmStateSize: number;
  readonly extraBytes: number;
}

export function decodeSnapshot(from: Buffer, what: string): SnapshotFields {
  return {
    l1At: readU64BE(from, 0, `${what}: its L1 table's offset`),
    l1Entries: from.readUInt32BE(8),
    idBytes: from.readUInt16BE(12),
    nameBytes: from.readUInt16BE(14),
    seconds: from.readUInt32BE(16),
    nanoseconds: from.readUInt32BE(20),
    vmClockNanoseconds: from.readBigUInt64BE(24),
    vmStateSize: from.readUInt32BE(32),
    extraBytes: from.readUInt32BE(36),
  };
}

/** What a snapshot's extra data adds, as far as it reaches; unknown bytes after that are kept and ignored. */
export interface SnapshotExtra {
  readonly vmStateSize?: number;
  readonly diskSize?: number;
  readonly icount?: bigint;
}

const NO_ICOUNT = 2n ** 64n - 1n;

export function decodeSnapshotExtra(from: Buffer, what: string): SnapshotExtra {
  const icount = from.length >= 24 ? from.readBigUInt64BE(16) : NO_ICOUNT;
  return {
    ...(from.length >= 8 ? { vmStateSize: readU64BE(from, 0, `${what}: its machine state's size`) } : {}),
    ...(from.length >= 16 ? { diskSize: readU64BE(from, 8, `${what}: its disk size`) } : {}),
    ...(icount === NO_ICOUNT ? {} : { icount }),
  };
}

export const BITMAP_HEADER_BYTES = 24;

export interface BitmapFields {
  readonly tableAt: number;
  readonly tableEntries: number;
  readonly inUse: boolean;
  readonly auto: boolean;
  readonly type: number;
  readonly granularityBits: number;
  readonly nameBytes: number;
  readonly extraBytes: number;
}

export function decodeBitmap(from: Buffer, at: number, name: string): BitmapFields {
  const flags = from.readUInt32BE(at + 12);
  return {
    tableAt: readU64BE(from, at, `${name}: the offset of a bitmap table`),
    tableEntries: from.readUInt32BE(at + 8),
    inUse: bitAt(flags, 0),
    auto: bitAt(flags, 1),
    type: from.readUInt8(at + 16),
    granularityBits: from.readUInt8(at + 17),
    nameBytes: from.readUInt16BE(at + 18),
    extraBytes: from.readUInt32BE(at + 20),
  };
}
