/**
 * Where the fields of every kind of extent lie, and what their bits mean. All integers are little-endian, nearly all
 * offsets count sectors. Clauses are those of VMware's "Virtual Disk Format 5.0" (hosted sparse, ESX Server sparse);
 * seSparse is described in the sources of QEMU.
 */
import { bitAt, hasBits, readU64LE, writeU64LE } from '../../lib/bits.js';

export const SECTOR = 512;

/** What a file begins with. */
export type Kind = 'hosted' | 'cowd' | 'sesparse';

const HOSTED_MAGIC = 0x564d_444b;
const COWD_MAGIC = 0x4457_4f43;
const SESPARSE_MAGIC = 0xcafe_babe;
const SESPARSE_VOLATILE_MAGIC = 0xcafe_cafe;
const SESPARSE_VERSION = { high: 2, low: 1 } as const;

/** Bytes of a header that are looked at, by kind. */
export const HEADER_BYTES = { hosted: SECTOR, cowd: 2048, sesparse: SECTOR } as const;

/** QEMU's limits, in the units of the fields. */
export const MAX = {
  descriptorBytes: 1024 * 1024 - 1,
  grainSectors: 2_097_152,
  entriesPerTable: 512,
  directoryBytes: 128 * 1024 * 1024,
  extents: 4096,
} as const;

export const COWD_ENTRIES = 4096;
export const ENTRY_BYTES = 4;
export const SESPARSE_ENTRY_BYTES = 8;

/** The kind of extent that begins with these bytes, if it is one. */
export function kindOf(head: Buffer): Kind | undefined {
  if (head.length < 8) return undefined;
  const first = head.readUInt32LE(0);
  if (first === HOSTED_MAGIC) return 'hosted';
  if (first === COWD_MAGIC) return 'cowd';
  return first === SESPARSE_MAGIC && head.readUInt32LE(4) === 0 ? 'sesparse' : undefined;
}

/** A header as stored: nothing is checked but that numbers can be told. Counts and offsets are sectors. */
export interface HostedFields {
  readonly version: number;
  /** The redundant directory may be believed. */
  readonly redundant: boolean;
  /** An entry of 1 means zeros. */
  readonly zeroGrains: boolean;
  /** Grains are compressed, with a marker before each. */
  readonly compressed: boolean;
  readonly markers: boolean;
  readonly capacity: number;
  readonly grainSectors: number;
  readonly descriptorAt: number;
  readonly descriptorSectors: number;
  readonly entriesPerTable: number;
  readonly redundantAt: number;
  /** The header is a placeholder: the one that counts stands at the end of the file. */
  readonly directoryAt: number | 'at-end';
  /** Where grains may begin. */
  readonly overhead: number;
  readonly unclean: boolean;
  /** 0 none, 1 deflate. */
  readonly compression: number;
}

const FLAG = { newlines: 1, redundant: 2, zeroGrains: 4, compressed: 0x1_0000, markers: 0x2_0000 } as const;
/** Bytes that a transfer as text would change. */
const NEWLINES = [0x0a, 0x20, 0x0d, 0x0a] as const;
const NEWLINES_AT = 73;

/** Throws `corrupt` for fields beyond 2^53. */
export function decodeHosted(bytes: Buffer, name: string): HostedFields {
  const flags = bytes.readUInt32LE(8);
  const u64 = (at: number, what: string): number => readU64LE(bytes, at, `${name}: the ${what}`);
  const redundant = hasBits(flags, FLAG.redundant);
  const atEnd = bytes.readUInt32LE(56) === 0xffff_ffff && bytes.readUInt32LE(60) === 0xffff_ffff;
  return {
    version: bytes.readUInt32LE(4),
    redundant,
    zeroGrains: hasBits(flags, FLAG.zeroGrains),
    compressed: hasBits(flags, FLAG.compressed),
    markers: hasBits(flags, FLAG.markers),
    capacity: u64(12, 'capacity'),
    grainSectors: u64(20, 'grain size'),
    descriptorAt: u64(28, 'descriptor offset'),
    descriptorSectors: u64(36, 'descriptor length'),
    entriesPerTable: bytes.readUInt32LE(44),
    redundantAt: redundant ? u64(48, 'redundant grain directory offset') : 0,
    directoryAt: atEnd ? 'at-end' : u64(56, 'grain directory offset'),
    overhead: u64(64, 'overhead'),
    unclean: bytes.readUInt8(CLEAN_AT.hosted) !== 0,
    compression: bytes.readUInt16LE(77),
  };
}

/** Whether a transfer as text has changed the file: the header promises newlines that are not there. */
export function newlinesChanged(bytes: Buffer): boolean {
  return (
    hasBits(bytes.readUInt32LE(8), FLAG.newlines) &&
    NEWLINES.some((byte, n) => bytes.readUInt8(NEWLINES_AT + n) !== byte)
  );
}

/** The header's sector. */
export function encodeHosted(fields: HostedFields): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  const flags =
    FLAG.newlines +
    (fields.redundant ? FLAG.redundant : 0) +
    (fields.zeroGrains ? FLAG.zeroGrains : 0) +
    (fields.compressed ? FLAG.compressed : 0) +
    (fields.markers ? FLAG.markers : 0);
  bytes.writeUInt32LE(HOSTED_MAGIC, 0);
  bytes.writeUInt32LE(fields.version, 4);
  bytes.writeUInt32LE(flags, 8);
  writeU64LE(bytes, fields.capacity, 12);
  writeU64LE(bytes, fields.grainSectors, 20);
  writeU64LE(bytes, fields.descriptorAt, 28);
  writeU64LE(bytes, fields.descriptorSectors, 36);
  bytes.writeUInt32LE(fields.entriesPerTable, 44);
  writeU64LE(bytes, fields.redundantAt, 48);
  if (fields.directoryAt === 'at-end') bytes.fill(0xff, 56, 64);
  else writeU64LE(bytes, fields.directoryAt, 56);
  writeU64LE(bytes, fields.overhead, 64);
  bytes.writeUInt8(fields.unclean ? 1 : 0, CLEAN_AT.hosted);
  bytes.set(NEWLINES, NEWLINES_AT);
  bytes.writeUInt16LE(fields.compression, 77);
  return bytes;
}

/** Puts what changes with the size of a disk into a hosted header's sector. Sectors. */
export function putHostedSize(
  bytes: Buffer,
  fields: Pick<HostedFields, 'capacity' | 'redundantAt'> & { readonly directoryAt: number },
): void {
  writeU64LE(bytes, fields.capacity, 12);
  writeU64LE(bytes, fields.redundantAt, 48);
  writeU64LE(bytes, fields.directoryAt, 56);
}

/** The byte of a header that is 0 where its last writer finished. */
export const CLEAN_AT = { hosted: 72, cowd: 1648 } as const;

/** The header of an ESX Server sparse extent. */
export interface CowdFields {
  readonly version: number;
  /** It is no delta of something else. */
  readonly root: boolean;
  readonly capacity: number;
  readonly grainSectors: number;
  readonly directoryAt: number;
  readonly directoryEntries: number;
  /** Where its writer believed the next grain to go. */
  readonly freeSector: number;
  readonly unclean: boolean;
}

const COWD_FLAGS = 8;
/** Where `freeSector` stands. */
export const COWD_FREE_AT = 28;

export function decodeCowd(bytes: Buffer): CowdFields {
  return {
    version: bytes.readUInt32LE(4),
    root: bitAt(bytes.readUInt32LE(COWD_FLAGS), 0),
    capacity: bytes.readUInt32LE(12),
    grainSectors: bytes.readUInt32LE(16),
    directoryAt: bytes.readUInt32LE(20),
    directoryEntries: bytes.readUInt32LE(24),
    freeSector: bytes.readUInt32LE(COWD_FREE_AT),
    unclean: bytes.readUInt8(CLEAN_AT.cowd) !== 0,
  };
}

/** The header's four sectors. */
export function encodeCowd(fields: CowdFields): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES.cowd);
  bytes.writeUInt32LE(COWD_MAGIC, 0);
  bytes.writeUInt32LE(fields.version, 4);
  bytes.writeUInt32LE(fields.root ? 3 : 2, COWD_FLAGS);
  bytes.writeUInt32LE(fields.capacity, 12);
  bytes.writeUInt32LE(fields.grainSectors, 16);
  bytes.writeUInt32LE(fields.directoryAt, 20);
  bytes.writeUInt32LE(fields.directoryEntries, 24);
  bytes.writeUInt32LE(fields.freeSector, COWD_FREE_AT);
  bytes.writeUInt8(fields.unclean ? 1 : 0, CLEAN_AT.cowd);
  return bytes;
}

/** The constant header of an seSparse extent. Offsets and lengths are sectors. */
export interface SeSparseFields {
  readonly knownVersion: boolean;
  readonly capacity: number;
  readonly grainSectors: number;
  readonly tableSectors: number;
  readonly flags: number;
  readonly volatileAt: number;
  readonly directoryAt: number;
  readonly directorySectors: number;
  readonly tablesAt: number;
  readonly tablesSectors: number;
  readonly grainsAt: number;
  readonly grainsSectors: number;
}

/** Throws `corrupt` for fields beyond 2^53. */
export function decodeSeSparse(bytes: Buffer, name: string): SeSparseFields {
  const u64 = (at: number, what: string): number => readU64LE(bytes, at, `${name}: the ${what}`);
  return {
    knownVersion: bytes.readUInt32LE(8) === SESPARSE_VERSION.low && bytes.readUInt32LE(12) === SESPARSE_VERSION.high,
    capacity: u64(16, 'capacity'),
    grainSectors: u64(24, 'grain size'),
    tableSectors: u64(32, 'grain table size'),
    flags: u64(40, 'flags'),
    volatileAt: u64(80, 'volatile header offset'),
    directoryAt: u64(128, 'grain directory offset'),
    directorySectors: u64(136, 'grain directory length'),
    tablesAt: u64(144, 'grain tables offset'),
    tablesSectors: u64(152, 'grain tables length'),
    grainsAt: u64(192, 'grains offset'),
    grainsSectors: u64(200, 'grains length'),
  };
}

/** The header's sector; what the format has besides (journal, free bitmap, back map) begins where no reader looks. */
export function encodeSeSparse(fields: Omit<SeSparseFields, 'knownVersion'>): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  writeU64LE(bytes, SESPARSE_MAGIC, 0);
  bytes.writeUInt32LE(SESPARSE_VERSION.low, 8);
  bytes.writeUInt32LE(SESPARSE_VERSION.high, 12);
  const words: readonly (readonly [number, number])[] = [
    [16, fields.capacity],
    [24, fields.grainSectors],
    [32, fields.tableSectors],
    [40, fields.flags],
    [80, fields.volatileAt],
    [88, 1],
    [128, fields.directoryAt],
    [136, fields.directorySectors],
    [144, fields.tablesAt],
    [152, fields.tablesSectors],
    [192, fields.grainsAt],
    [200, fields.grainsSectors],
  ];
  for (const [at, value] of words) writeU64LE(bytes, value, at);
  return bytes;
}

/** Whether the sector is an seSparse extent's volatile header, and whether its journal was not replayed. */
export function decodeVolatile(bytes: Buffer): { readonly valid: boolean; readonly replay: boolean } {
  const valid = bytes.readUInt32LE(0) === SESPARSE_VOLATILE_MAGIC && bytes.readUInt32LE(4) === 0;
  return { valid, replay: bytes.readUInt32LE(24) !== 0 || bytes.readUInt32LE(28) !== 0 };
}

export function encodeVolatile(replay: boolean): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  writeU64LE(bytes, SESPARSE_VOLATILE_MAGIC, 0);
  bytes.writeUInt32LE(replay ? 1 : 0, 24);
  return bytes;
}

/** What an entry of an seSparse grain directory leads to: the number of a grain table, or a hole. `NaN` is damage. */
export function seSparseTable(low: number, high: number): number | undefined {
  if (low === 0 && high === 0) return undefined;
  return high === 0x1000_0000 ? low : Number.NaN;
}

export function seSparseTableEntry(table: number): readonly [low: number, high: number] {
  return [table, 0x1000_0000];
}

/**
 * What an entry of an seSparse grain table says: `hole`, `zero` (unmapped by the guest, or zeros), `bad`, or the number
 * of a grain. Its bits 0 to 11 stand in bits 48 to 59 of the entry, the rest in bits 0 to 47.
 */
export function seSparseGrain(low: number, high: number): 'hole' | 'zero' | 'bad' | number {
  const type = high >>> 28;
  if (type === 0) return low === 0 && high === 0 ? 'hole' : 'bad';
  if (type === 1 || type === 2) return 'zero';
  if (type !== 3) return 'bad';
  const grain = ((high >>> 16) & 0xfff) + ((high & 0xffff) * 2 ** 32 + low) * 4096;
  return Number.isSafeInteger(grain) ? grain : 'bad';
}

export function seSparseGrainEntry(grain: number | 'zero' | 'unmapped'): readonly [low: number, high: number] {
  if (grain === 'zero') return [0, 0x2000_0000];
  if (grain === 'unmapped') return [0, 0x1000_0000];
  const rest = Math.floor(grain / 4096);
  return [rest % 2 ** 32, 0x3000_0000 + (grain % 4096) * 2 ** 16 + Math.floor(rest / 2 ** 32)];
}

/** What stands before each compressed grain, and before each table written in between. */
export const MARKER_BYTES = 12;
export const MARKER_TYPE = { endOfStream: 0, table: 1, directory: 2, footer: 3 } as const;

export interface Marker {
  /** Of a grain: its first guest sector. Of anything else: how many sectors follow. */
  readonly value: number;
  /** Of a grain: bytes of the stream behind these 12. Zero for everything else, which has a type. */
  readonly size: number;
  readonly type: number;
}

/** `bytes` holds at least 16. Throws `corrupt` for values beyond 2^53. */
export function decodeMarker(bytes: Buffer, name: string): Marker {
  return {
    value: readU64LE(bytes, 0, `${name}: a marker`),
    size: bytes.readUInt32LE(8),
    type: bytes.readUInt32LE(12),
  };
}

/** The head of a compressed grain. */
export function encodeGrainMarker(sector: number, size: number): Buffer {
  const bytes = Buffer.alloc(MARKER_BYTES);
  writeU64LE(bytes, sector, 0);
  bytes.writeUInt32LE(size, 8);
  return bytes;
}

/** The sector before a table, a directory or a footer of `sectors` sectors, or the end of the stream. */
export function encodeMarker(type: number, sectors: number): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  writeU64LE(bytes, sectors, 0);
  bytes.writeUInt32LE(type, 12);
  return bytes;
}

/** How many bytes from the start of a hosted sparse extent hold no grain; what is damaged counts two sectors. */
export function hostedOverhead(head: Buffer): number {
  if (head.length < HEADER_BYTES.hosted) return 2 * SECTOR;
  const overhead = head.readUInt32LE(64);
  return head.readUInt32LE(68) === 0 && overhead > 0 ? overhead * SECTOR : 2 * SECTOR;
}
