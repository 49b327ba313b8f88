/**
 * The on-disk structures of qcow2 beside its tables (`read/layout.ts`): header, extensions, snapshot table, bitmap
 * directory. Every field is decoded in exactly one function. All numbers are big-endian. Specification:
 * docs/interop/qcow2 of QEMU.
 */
import { bitAt, readU64BE } from '../../lib/bits.js';

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

/** What is left of `field` when only these bits may stay. All are below 32. */
export function keptFeatures(field: Features, bits: readonly number[]): Features {
  return { high: 0, low: bits.reduce((kept, bit) => kept | (field.low & (1 << bit)), 0) >>> 0 };
}

/** Where the flags of a bitmap's directory entry lie in it, and the flags with "in use" added. */
export const BITMAP_FLAGS_AT = 12;

export function inUseFlags(flags: number): number {
  return (flags | 1) >>> 0;
}

/** The flags of a bitmap, with "auto" set or not. */
export function bitmapFlags(flags: number, auto: boolean): number {
  return (auto ? flags | 2 : flags & ~2) >>> 0;
}

/** A feature field with a bit set or not; the bit is below 32. */
export function withFeature({ high, low }: Features, bit: number, set: boolean): Features {
  return { high, low: (set ? low | (1 << bit) : low & ~(1 << bit)) >>> 0 };
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
