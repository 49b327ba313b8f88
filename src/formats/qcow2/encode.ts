/** The writing side of `layout.ts`: each on-disk field is encoded in exactly one function of this file. */

import { roundUp } from '../../lib/bits.js';
import type { RawExtension } from './extensions.js';
import {
  BITMAP_HEADER_BYTES,
  bitmapFlags,
  COMPATIBLE,
  EXTENSION_HEADER_BYTES,
  FEATURE_NAME_BYTES,
  type Features,
  HEADER_BYTES,
  type HeaderFields,
  INCOMPATIBLE,
  incompatibleByte,
  MAGIC,
  SNAPSHOT_HEADER_BYTES,
  withFeature,
  withoutDamageBits,
} from './layout.js';
import { ownedHigh } from './read/layout.js';

const TWO_32 = 2 ** 32;
const COPIED = 2 ** 31;
const COMPRESSED = 2 ** 30;
const DESCRIPTOR_BITS = 62;

/** Writes an exact number as a 64-bit field. */
export function putU64(into: Buffer, at: number, value: number): void {
  into.writeUInt32BE(Math.floor(value / TWO_32), at);
  into.writeUInt32BE(value % TWO_32, at + 4);
}

/** A feature field with these bits set. */
export function featureBits(...bits: readonly number[]): Features {
  let [high, low] = [0, 0];
  for (const bit of new Set(bits)) {
    if (bit < 32) low += 2 ** bit;
    else high += 2 ** (bit - 32);
  }
  return { high, low };
}

/** The header proper: 72 bytes in version 2, `headerBytes` in version 3, unknown bytes zero. */
export function encodeHeader(fields: HeaderFields): Buffer {
  const into = Buffer.alloc(Math.max(fields.headerBytes, HEADER_BYTES.known));
  into.writeUInt32BE(MAGIC, 0);
  into.writeUInt32BE(fields.version, 4);
  putU64(into, 8, fields.backingAt);
  into.writeUInt32BE(fields.backingBytes, 16);
  into.writeUInt32BE(fields.clusterBits, 20);
  putU64(into, 24, fields.size);
  into.writeUInt32BE(fields.cryptMethod, 32);
  into.writeUInt32BE(fields.l1Entries, 36);
  putU64(into, 40, fields.l1At);
  putU64(into, 48, fields.refcountTableAt);
  into.writeUInt32BE(fields.refcountTableClusters, 56);
  into.writeUInt32BE(fields.snapshotCount, 60);
  putU64(into, 64, fields.snapshotsAt);
  if (fields.version < 3) return into.subarray(0, HEADER_BYTES.version2);
  putFeatures(into, 72, fields.incompatible);
  putFeatures(into, 80, fields.compatible);
  putFeatures(into, 88, fields.autoclear);
  into.writeUInt32BE(fields.refcountOrder, 96);
  into.writeUInt32BE(fields.headerBytes, 100);
  if (fields.headerBytes > 104) into.writeUInt8(fields.compressionType, 104);
  return into.subarray(0, fields.headerBytes);
}

/** The header fields that change while an image is open. */
export interface HeaderChanges {
  readonly size?: number;
  readonly l1At?: number;
  readonly l1Entries?: number;
  readonly refcountTableAt?: number;
  readonly refcountTableBytes?: number;
  readonly snapshotsAt?: number;
  readonly snapshotCount?: number;
  readonly autoclear?: Features;
  readonly backingAt?: number;
  readonly backingBytes?: number;
  /** The first sector with other extensions; the fields above are put into it. */
  readonly start?: Buffer;
}

/** Puts changed fields into the first sector of a header; `clusterSize` is the image's. */
export function putHeaderChanges(sector: Buffer, changes: HeaderChanges, clusterSize: number): void {
  const { size, l1At, l1Entries, refcountTableAt, refcountTableBytes, snapshotsAt, snapshotCount, autoclear } = changes;
  const { backingAt, backingBytes } = changes;
  if (backingAt !== undefined) putU64(sector, 8, backingAt);
  if (backingBytes !== undefined) sector.writeUInt32BE(backingBytes, 16);
  if (size !== undefined) putU64(sector, 24, size);
  if (l1Entries !== undefined) sector.writeUInt32BE(l1Entries, 36);
  if (l1At !== undefined) putU64(sector, 40, l1At);
  if (refcountTableAt !== undefined) putU64(sector, 48, refcountTableAt);
  if (refcountTableBytes !== undefined) sector.writeUInt32BE(refcountTableBytes / clusterSize, 56);
  if (snapshotCount !== undefined) sector.writeUInt32BE(snapshotCount, 60);
  if (snapshotsAt !== undefined) putU64(sector, 64, snapshotsAt);
  if (autoclear !== undefined) putFeatures(sector, 88, autoclear);
}

function putFeatures(into: Buffer, at: number, field: Features): void {
  into.writeUInt32BE(field.high, at);
  into.writeUInt32BE(field.low, at + 4);
}

/** A version 3 header as stored, with that feature or without. */
export function withLazyRefcounts(stored: Uint8Array, set: boolean): Buffer {
  const into = Buffer.from(stored);
  const field = { high: into.readUInt32BE(80), low: into.readUInt32BE(84) };
  putFeatures(into, 80, withFeature(field, COMPATIBLE.lazyRefcounts, set));
  return into;
}

/** A version 3 header as stored, with refcounts of 2^`order` bits. */
export function withRefcountOrder(stored: Uint8Array, order: number): Buffer {
  const into = Buffer.from(stored);
  into.writeUInt32BE(order, 96);
  return into;
}

/** Header extensions one after the other, with the end marker. */
export function encodeExtensions(extensions: readonly RawExtension[]): Buffer {
  const parts = [...extensions, { type: 0, data: new Uint8Array() }].map(({ type, data }) => {
    const part = Buffer.alloc(EXTENSION_HEADER_BYTES + roundUp(data.length, 8));
    part.writeUInt32BE(type, 0);
    part.writeUInt32BE(data.length, 4);
    part.set(data, EXTENSION_HEADER_BYTES);
    return part;
  });
  return Buffer.concat(parts);
}

/** The data of a feature name table naming incompatible features. */
export function encodeFeatureNames(names: readonly { readonly bit: number; readonly name: string }[]): Buffer {
  const into = Buffer.alloc(names.length * FEATURE_NAME_BYTES);
  names.forEach(({ bit, name }, index) => {
    into.writeUInt8(bit, index * FEATURE_NAME_BYTES + 1);
    into.write(name, index * FEATURE_NAME_BYTES + 2, FEATURE_NAME_BYTES - 2);
  });
  return into;
}

export function encodeBitmapsExtension(claim: { count: number; bytes: number; at: number }): Buffer {
  const into = Buffer.alloc(24);
  into.writeUInt32BE(claim.count, 0);
  putU64(into, 8, claim.bytes);
  putU64(into, 16, claim.at);
  return into;
}

export function encodeCryptoExtension(claim: { at: number; bytes: number }): Buffer {
  const into = Buffer.alloc(16);
  putU64(into, 0, claim.at);
  putU64(into, 8, claim.bytes);
  return into;
}

/** An L1 or standard L2 entry. */
export interface Entry {
  readonly offset: number;
  readonly copied?: boolean;
  readonly zero?: boolean;
}

export function putEntry(into: Buffer, at: number, entry: Entry): void {
  into.writeUInt32BE(Math.floor(entry.offset / TWO_32) + (entry.copied === true ? COPIED : 0), at);
  into.writeUInt32BE((entry.offset % TWO_32) + (entry.zero === true ? 1 : 0), at + 4);
}

/** The L2 entry of a compressed cluster of `bytes` bytes at `offset`, as words. */
function packedEntry(offset: number, bytes: number, clusterBits: number): readonly [high: number, low: number] {
  const split = DESCRIPTOR_BITS - (clusterBits - 8) - 32;
  const sectors = Math.ceil(((offset % 512) + bytes) / 512);
  return [COMPRESSED + (sectors - 1) * 2 ** split + Math.floor(offset / TWO_32), offset % TWO_32];
}

export function putPacked(into: Buffer, at: number, offset: number, bytes: number, clusterBits: number): void {
  const [high, low] = packedEntry(offset, bytes, clusterBits);
  into.writeUInt32BE(high, at);
  into.writeUInt32BE(low, at + 4);
}

/** One entry of the snapshot table, padded. `extra` is the extra data as it shall be stored. */
export interface SnapshotEntry {
  readonly l1At: number;
  readonly l1Entries: number;
  readonly id: Uint8Array;
  readonly name: Uint8Array;
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly vmStateSize: number;
  readonly extra: Uint8Array;
  readonly vmClockNanoseconds?: bigint;
}

export function encodeSnapshot(entry: SnapshotEntry): Buffer {
  const { id, name, extra } = entry;
  const into = Buffer.alloc(roundUp(SNAPSHOT_HEADER_BYTES + extra.length + id.length + name.length, 8));
  putU64(into, 0, entry.l1At);
  into.writeUInt32BE(entry.l1Entries, 8);
  into.writeUInt16BE(id.length, 12);
  into.writeUInt16BE(name.length, 14);
  into.writeUInt32BE(entry.seconds, 16);
  into.writeUInt32BE(entry.nanoseconds, 20);
  into.writeBigUInt64BE(entry.vmClockNanoseconds ?? 0n, 24);
  into.writeUInt32BE(entry.vmStateSize % TWO_32, 32);
  into.writeUInt32BE(extra.length, 36);
  into.set(extra, SNAPSHOT_HEADER_BYTES);
  into.set(id, SNAPSHOT_HEADER_BYTES + extra.length);
  into.set(name, SNAPSHOT_HEADER_BYTES + extra.length + id.length);
  return into;
}

/** A snapshot's entry as stored, with its L1 table elsewhere. */
export function movedSnapshot(stored: Buffer, l1At: number): Buffer {
  const into = Buffer.from(stored);
  putU64(into, 0, l1At);
  return into;
}

/** The extra data of a snapshot: 16 bytes, or 24 with the instruction count ("none" where undefined). */
export function encodeSnapshotExtra(vmStateSize: number, diskSize: number, icount?: bigint): Buffer {
  const into = Buffer.alloc(24);
  putU64(into, 0, vmStateSize);
  putU64(into, 8, diskSize);
  into.writeBigUInt64BE(icount ?? 2n ** 64n - 1n, 16);
  return into;
}

/** One entry of the bitmap directory, padded. */
export function encodeBitmap(entry: {
  readonly name: string;
  readonly granularity: number;
  readonly inUse: boolean;
  readonly auto: boolean;
  readonly tableAt: number;
  readonly tableEntries: number;
}): Buffer {
  const name = Buffer.from(entry.name);
  const into = Buffer.alloc(roundUp(BITMAP_HEADER_BYTES + name.length, 8));
  putU64(into, 0, entry.tableAt);
  into.writeUInt32BE(entry.tableEntries, 8);
  into.writeUInt32BE((entry.inUse ? 1 : 0) + (entry.auto ? 2 : 0), 12);
  into.writeUInt8(1, 16);
  into.writeUInt8(Math.log2(entry.granularity), 17);
  into.writeUInt16BE(name.length, 18);
  into.set(name, BITMAP_HEADER_BYTES);
  return into;
}

/** A directory entry as stored, with another table and another `auto` flag. */
export function changedBitmap(
  stored: Buffer,
  fields: { readonly tableAt: number; readonly tableEntries: number; readonly auto: boolean },
): Buffer {
  const into = Buffer.from(stored);
  putU64(into, 0, fields.tableAt);
  into.writeUInt32BE(fields.tableEntries, 8);
  into.writeUInt32BE(bitmapFlags(into.readUInt32BE(12), fields.auto), 12);
  return into;
}

/** Bytes to put at an offset of the header: fields that change together are one write. */
export interface HeaderPatch {
  readonly at: number;
  readonly bytes: Buffer;
}

/** Switches to another refcount table. */
export function refcountTablePatch(at: number, clusters: number): HeaderPatch {
  const bytes = Buffer.alloc(12);
  putU64(bytes, 0, at);
  bytes.writeUInt32BE(clusters, 8);
  return { at: 48, bytes };
}

/** Says that the image is neither dirty nor corrupt. `stored` is a version 3 header as it is stored now. */
export function soundPatch(stored: Uint8Array): HeaderPatch {
  const { at } = incompatibleByte(INCOMPATIBLE.dirty);
  return { at, bytes: Buffer.from([withoutDamageBits(stored[at] ?? 0)]) };
}

/** A run of L2 entries that own consecutive host clusters, or one entry of a compressed cluster. */
export interface EntryRun {
  readonly host: number;
  readonly count: number;
  /** Halves of the subcluster bitmap, the same for all. */
  readonly zeros: number;
  readonly allocated: number;
  /** Bytes of the compressed cluster; 0 where there is none. */
  readonly packed: number;
}

/** The words of the entries of a run; `wordsPerEntry` is 4 with subclusters. */
export function entriesOf(run: EntryRun, clusterSize: number, wordsPerEntry: number): Uint32Array {
  const words = new Uint32Array(run.count * wordsPerEntry);
  if (run.packed > 0) {
    words.set(packedEntry(run.host, run.packed, Math.log2(clusterSize)));
    return words;
  }
  for (let n = 0, host = run.host; n < run.count; n++, host += clusterSize) {
    const i = n * wordsPerEntry;
    words[i] = ownedHigh(host);
    words[i + 1] = host % TWO_32;
    if (wordsPerEntry === 2) continue;
    words[i + 2] = run.zeros;
    words[i + 3] = run.allocated;
  }
  return words;
}
