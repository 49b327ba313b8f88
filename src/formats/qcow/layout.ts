/**
 * The on-disk structures of qcow, version 1: every field is decoded in exactly one function of this file. All numbers
 * are big-endian. There is no specification but QEMU's own driver.
 *
 * Tables are handed around as arrays of 32-bit words in host order; a 64-bit entry is the pair (high, low).
 */
import { join64, readU64BE } from '../../lib/bits.js';

/** "QFI\xfb", which qcow2 has too: the version tells them apart. */
export const MAGIC = 0x514649fb;
export const VERSION = 1;
export const HEADER_BYTES = 48;
export const ENTRY_BYTES = 8;
/** Words of a table per entry. */
export const ENTRY_WORDS = 2;
/** What a medium stores whole or not at all; a data cluster begins at a multiple of it. */
export const SECTOR = 512;

/** What is accepted; QEMU's own bounds, so that an image either of us can open the other can too. */
export const BOUNDS = {
  clusterBits: { least: 9, most: 16 },
  l2Bits: { least: 6, most: 13 },
  size: { least: 2 },
  backingNameBytes: 1023,
} as const;

export const CRYPT = { none: 0, aes: 1 } as const;

/** The header as stored; nothing is checked yet except that 64-bit fields are exact. */
export interface HeaderFields {
  readonly magic: number;
  readonly version: number;
  readonly backingAt: number;
  readonly backingBytes: number;
  /** Meant for the date of the backing file. QEMU has always left it 0. */
  readonly modified: number;
  readonly size: number;
  readonly clusterBits: number;
  readonly l2Bits: number;
  /** Kept as found. */
  readonly padding: number;
  readonly cryptMethod: number;
  readonly l1At: number;
}

/** Where each field lies and how wide it is: what recipes and the fuzzer damage. */
export const FIELDS = {
  magic: { at: 0, bytes: 4 },
  version: { at: 4, bytes: 4 },
  backingAt: { at: 8, bytes: 8 },
  backingBytes: { at: 16, bytes: 4 },
  modified: { at: 20, bytes: 4 },
  size: { at: 24, bytes: 8 },
  clusterBits: { at: 32, bytes: 1 },
  l2Bits: { at: 33, bytes: 1 },
  padding: { at: 34, bytes: 2 },
  cryptMethod: { at: 36, bytes: 4 },
  l1At: { at: 40, bytes: 8 },
} as const;

/** Decodes `HEADER_BYTES`. */
export function decodeHeader(from: Buffer, name: string): HeaderFields {
  return {
    magic: from.readUInt32BE(FIELDS.magic.at),
    version: from.readUInt32BE(FIELDS.version.at),
    backingAt: readU64BE(from, FIELDS.backingAt.at, `${name}: the offset of the backing file name`),
    backingBytes: from.readUInt32BE(FIELDS.backingBytes.at),
    modified: from.readUInt32BE(FIELDS.modified.at),
    size: readU64BE(from, FIELDS.size.at, `${name}: the disk size`),
    clusterBits: from.readUInt8(FIELDS.clusterBits.at),
    l2Bits: from.readUInt8(FIELDS.l2Bits.at),
    padding: from.readUInt16BE(FIELDS.padding.at),
    cryptMethod: from.readUInt32BE(FIELDS.cryptMethod.at),
    l1At: readU64BE(from, FIELDS.l1At.at, `${name}: the offset of the L1 table`),
  };
}

export function encodeHeader(fields: HeaderFields): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(fields.magic, FIELDS.magic.at);
  header.writeUInt32BE(fields.version, FIELDS.version.at);
  putU64(header, FIELDS.backingAt.at, fields.backingAt);
  header.writeUInt32BE(fields.backingBytes, FIELDS.backingBytes.at);
  header.writeUInt32BE(fields.modified, FIELDS.modified.at);
  putU64(header, FIELDS.size.at, fields.size);
  header.writeUInt8(fields.clusterBits, FIELDS.clusterBits.at);
  header.writeUInt8(fields.l2Bits, FIELDS.l2Bits.at);
  header.writeUInt16BE(fields.padding, FIELDS.padding.at);
  header.writeUInt32BE(fields.cryptMethod, FIELDS.cryptMethod.at);
  putU64(header, FIELDS.l1At.at, fields.l1At);
  return header;
}

/** Whether the file is of this format, told from its first bytes. */
export function isQcow(head: Buffer): boolean {
  return head.length >= HEADER_BYTES && head.readUInt32BE(0) === MAGIC && head.readUInt32BE(4) === VERSION;
}

/** Bytes from the start of a file that are structures and no guest data, as far as the header tells: 0 where it lies. */
export function probedOwnBytes(head: Buffer): number {
  if (head.length < HEADER_BYTES) return 0;
  const { clusterBits, l2Bits } = BOUNDS;
  const [cluster, l2] = [head.readUInt8(FIELDS.clusterBits.at), head.readUInt8(FIELDS.l2Bits.at)];
  if (cluster < clusterBits.least || cluster > clusterBits.most || l2 < l2Bits.least || l2 > l2Bits.most) return 0;
  const [size, l1At] = [FIELDS.size.at, FIELDS.l1At.at].map((at) => Number(head.readBigUInt64BE(at))) as [
    number,
    number,
  ];
  return l1At + Math.ceil(size / 2 ** (cluster + l2)) * ENTRY_BYTES;
}

function putU64(into: Buffer, at: number, value: number): void {
  const [high, low] = splitEntry(value);
  into.writeUInt32BE(high, at);
  into.writeUInt32BE(low, at + 4);
}

// --- entries -------------------------------------------------------------------------------------------------------

const TWO_32 = 2 ** 32;
const HIGH_LIMIT = 2 ** 21;
const COMPRESSED = 0x80000000;

export function isEmpty(high: number, low: number): boolean {
  return high === 0 && low === 0;
}

export function isCompressed(high: number): boolean {
  return (high & COMPRESSED) !== 0;
}

/** The offset in an entry of the L1 table, or of an L2 table where it is not compressed; NaN past 2^53. */
export function entryOffset(high: number, low: number): number {
  return high < HIGH_LIMIT ? high * TWO_32 + low : Number.NaN;
}

/** The words of an entry that points to `offset`. */
export function splitEntry(offset: number): readonly [high: number, low: number] {
  return [Math.floor(offset / TWO_32), offset % TWO_32];
}

/** Entries that lead to clusters which follow each other from `offset` on. */
export function encodeEntries(offset: number, count: number, clusterSize: number): Buffer {
  const entries = Buffer.alloc(count * ENTRY_BYTES);
  for (let n = 0; n < count; n++) putU64(entries, n * ENTRY_BYTES, offset + n * clusterSize);
  return entries;
}

/** The entry of a compressed cluster. */
export function encodePackedEntry(place: PackedPlace, clusterBits: number): Buffer {
  const entry = Buffer.alloc(ENTRY_BYTES);
  const [high, low] = encodePacked(place, clusterBits);
  entry.writeUInt32BE(high, 0);
  entry.writeUInt32BE(low, 4);
  return entry;
}

/** Where the stream of a compressed cluster lies: to the byte, in both. */
export interface PackedPlace {
  readonly offset: number;
  readonly length: number;
}

/** Below the flag, as many bits of length as the cluster size has, then the offset. Throws `corrupt` past 2^53. */
export function decodePacked(high: number, low: number, clusterBits: number, what: string): PackedPlace {
  const offsetBits = 31 - clusterBits;
  const top = high & (2 ** offsetBits - 1);
  return { offset: join64(top, low, what), length: (high >>> offsetBits) & (2 ** clusterBits - 1) };
}

/** The words of an entry that points to a compressed cluster: its stream is shorter than a cluster. */
export function encodePacked({ offset, length }: PackedPlace, clusterBits: number): readonly [number, number] {
  const [high, low] = splitEntry(offset);
  return [(COMPRESSED | (length << (31 - clusterBits)) | high) >>> 0, low];
}
