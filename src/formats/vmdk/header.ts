/** Headers of sparse extents, read and checked: every number in a `SparseShape` has passed its limit. */
import { checkTable, type Limits } from '../../image/limits.js';
import { asBuffer } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import {
  COWD_ENTRIES,
  decodeCowd,
  decodeHosted,
  decodeMarker,
  decodeSeSparse,
  decodeVolatile,
  ENTRY_BYTES,
  HEADER_BYTES,
  type HostedFields,
  type Kind,
  kindOf,
  MARKER_TYPE,
  MAX,
  SECTOR,
  SESPARSE_ENTRY_BYTES,
} from './layout.js';

/** A sparse extent. All offsets and lengths are bytes. */
export interface SparseShape {
  readonly kind: Kind;
  readonly version: number;
  /** Guest bytes. */
  readonly size: number;
  readonly grainSize: number;
  readonly entriesPerTable: number;
  readonly entryBytes: number;
  readonly directoryAt: number;
  readonly directoryEntries: number;
  /** The second grain directory, with tables of its own. */
  readonly redundantAt: number | undefined;
  /** One of two grain directories does not lie in the file: the other one is `directoryAt`. */
  readonly damaged: boolean;
  readonly zeroGrains: boolean;
  readonly compressed: boolean;
  /** Compressed grains have a marker that says how long they are. */
  readonly markers: boolean;
  /** The last writer did not finish. */
  readonly unclean: boolean;
  /** The descriptor inside the extent. */
  readonly descriptor: { readonly at: number; readonly length: number } | undefined;
  /** seSparse: where table 0 begins and the last ends, and where grain 0 begins. */
  readonly tables: { readonly at: number; readonly end: number; readonly grainsAt: number } | undefined;
  /** The extent is no delta of something else, as far as its own header says. */
  readonly root: boolean;
}

/** The footer's marker, the footer and the end of the stream: what a file ends with whose header points there. */
const FOOTER_SECTORS = 3;

/** The kind of sparse extent in the storage. Throws `corrupt` where it is none. */
export function kindIn(storage: Storage): Kind {
  const head = Buffer.alloc(8);
  const kind = kindOf(head.subarray(0, storage.read(head, 0)));
  if (kind === undefined) throw corrupt(`${storage.name}: not a sparse extent (wrong magic)`);
  return kind;
}

/**
 * Reads and checks the header of a sparse extent. Throws `corrupt`, `truncated`, `limit`, and `unsupported` for
 * versions we do not know.
 */
export function readShape(storage: Storage, limits: Limits): SparseShape {
  const kind = kindIn(storage);
  const bytes = Buffer.alloc(HEADER_BYTES[kind]);
  readTable(storage, bytes, 0, 'header');
  const shape =
    kind === 'hosted'
      ? hosted(storage, bytes)
      : kind === 'cowd'
        ? cowd(storage, bytes)
        : seSparse(storage, bytes, limits);
  if (shape.size > limits.virtualSize) {
    throw new ImgfsError('limit', `${storage.name}: ${shape.size} guest bytes, the limit is ${limits.virtualSize}`);
  }
  if (shape.compressed && shape.grainSize > MAX_PACKED_GRAIN) {
    throw new ImgfsError('limit', `${storage.name}: compressed grains of ${shape.grainSize} bytes`, {
      hint: `the limit is ${MAX_PACKED_GRAIN}`,
    });
  }
  return { ...shape, ...directories(storage, shape, limits) };
}

function hosted(storage: Storage, head: Buffer): SparseShape {
  const { name } = storage;
  const first = decodeHosted(head, name);
  const fields = first.directoryAt === 'at-end' ? readFooter(storage) : first;
  const { version, capacity, grainSectors, entriesPerTable, directoryAt } = fields;
  if (version < 1 || version > 3) throw new ImgfsError('unsupported', `${name}: vmdk version ${version}`);
  if (directoryAt === 'at-end') throw corrupt(`${name}: the footer points to a footer`);
  if (fields.compression > 1) throw new ImgfsError('unsupported', `${name}: unknown compression ${fields.compression}`);
  if (entriesPerTable === 0) throw corrupt(`${name}: grain tables without entries`);
  if (entriesPerTable > MAX.entriesPerTable) {
    throw new ImgfsError('limit', `${name}: grain tables of ${entriesPerTable} entries`, {
      hint: `the limit is ${MAX.entriesPerTable}`,
    });
  }
  const grainSize = grainBytes(name, grainSectors);
  const size = bytesOf(name, capacity, 'capacity');
  if (bytesOf(name, fields.overhead, 'overhead') > storage.size()) {
    throw new ImgfsError('truncated', `${name}: the image ends before its first grain`);
  }
  return {
    kind: 'hosted',
    version,
    size,
    grainSize,
    entriesPerTable,
    entryBytes: ENTRY_BYTES,
    directoryAt: bytesOf(name, directoryAt, 'grain directory offset'),
    directoryEntries: Math.ceil(size / (grainSize * entriesPerTable)),
    redundantAt: fields.redundant ? bytesOf(name, fields.redundantAt, 'redundant grain directory offset') : undefined,
    damaged: false,
    zeroGrains: fields.zeroGrains,
    compressed: fields.compression === 1,
    markers: fields.markers,
    unclean: fields.unclean,
    descriptor: descriptorOf(name, first),
    tables: undefined,
    root: true,
  };
}

function descriptorOf(name: string, fields: HostedFields): SparseShape['descriptor'] {
  if (fields.descriptorAt === 0 || fields.descriptorSectors === 0) return undefined;
  return {
    at: bytesOf(name, fields.descriptorAt, 'descriptor offset'),
    length: bytesOf(name, fields.descriptorSectors, 'descriptor length'),
  };
}

/** The header that counts, where the first one was written before it was known where the directory would lie. */
function readFooter(storage: Storage): HostedFields {
  const at = storage.size() - FOOTER_SECTORS * SECTOR;
  if (at < SECTOR) throw new ImgfsError('truncated', `${storage.name}: the image ends before its footer`);
  const bytes = Buffer.alloc(FOOTER_SECTORS * SECTOR);
  readTable(storage, bytes, at, 'footer');
  const footer = bytes.subarray(SECTOR, 2 * SECTOR);
  const before = decodeMarker(bytes, storage.name);
  const after = decodeMarker(bytes.subarray(2 * SECTOR), storage.name);
  const placed = before.size === 0 && before.type === MARKER_TYPE.footer;
  const ended = after.value === 0 && after.size === 0 && after.type === MARKER_TYPE.endOfStream;
  // A copy that was cut short ends somewhere else: nothing of its directory is there.
  if (!placed || !ended || kindOf(footer) !== 'hosted') {
    throw new ImgfsError('truncated', `${storage.name}: the image does not end with a footer`);
  }
  return decodeHosted(footer, storage.name);
}

function cowd(storage: Storage, bytes: Buffer): SparseShape {
  const { name } = storage;
  const fields = decodeCowd(bytes);
  if (fields.version !== 1) throw new ImgfsError('unsupported', `${name}: COWD version ${fields.version}`);
  const grainSize = grainBytes(name, fields.grainSectors);
  const size = fields.capacity * SECTOR;
  if (fields.directoryEntries < Math.ceil(size / (grainSize * COWD_ENTRIES))) {
    throw corrupt(`${name}: the grain directory is too small for the disk`);
  }
  return {
    kind: 'cowd',
    version: fields.version,
    size,
    grainSize,
    entriesPerTable: COWD_ENTRIES,
    entryBytes: ENTRY_BYTES,
    directoryAt: fields.directoryAt * SECTOR,
    directoryEntries: fields.directoryEntries,
    redundantAt: undefined,
    damaged: false,
    zeroGrains: false,
    compressed: false,
    markers: false,
    unclean: fields.unclean,
    descriptor: undefined,
    tables: undefined,
    root: fields.root,
  };
}

/** The fields QEMU insists on are insisted on here: nobody has seen an image with others. */
function seSparse(storage: Storage, bytes: Buffer, limits: Limits): SparseShape {
  const { name } = storage;
  const fields = decodeSeSparse(bytes, name);
  if (!fields.knownVersion) throw new ImgfsError('unsupported', `${name}: unknown version of seSparse`);
  if (fields.flags !== 0) throw new ImgfsError('unsupported', `${name}: unknown flags of seSparse`);
  const volatile = Buffer.alloc(SECTOR);
  readTable(storage, volatile, bytesOf(name, fields.volatileAt, 'volatile header offset'), 'volatile header');
  const { valid, replay } = decodeVolatile(volatile);
  if (!valid) throw corrupt(`${name}: the volatile header has the wrong magic`);
  if (replay) throw new ImgfsError('unsupported', `${name}: the journal must be replayed, which imgfs cannot do`);
  const grainSize = grainBytes(name, fields.grainSectors);
  const size = bytesOf(name, fields.capacity, 'capacity');
  const tableBytes = bytesOf(name, fields.tableSectors, 'grain table size');
  if (tableBytes === 0) throw corrupt(`${name}: grain tables without entries`);
  if (tableBytes > MAX_SESPARSE_TABLE) throw new ImgfsError('limit', `${name}: grain tables of ${tableBytes} bytes`);
  const entriesPerTable = tableBytes / SESPARSE_ENTRY_BYTES;
  const directoryEntries = Math.ceil(size / (grainSize * entriesPerTable));
  const room = bytesOf(name, fields.directorySectors, 'grain directory length') / SESPARSE_ENTRY_BYTES;
  if (room < directoryEntries) throw corrupt(`${name}: the grain directory is too small for the disk`);
  const at = bytesOf(name, fields.tablesAt, 'grain tables offset');
  const end = at + bytesOf(name, fields.tablesSectors, 'grain tables length');
  const grainsAt = bytesOf(name, fields.grainsAt, 'grains offset');
  if (!Number.isSafeInteger(end + tableBytes)) throw corrupt(`${name}: the grain tables lie beyond 2^53`);
  if (tableBytes > limits.cacheBytes) throw new ImgfsError('limit', `${name}: grain tables of ${tableBytes} bytes`);
  return {
    kind: 'sesparse',
    version: 2,
    size,
    grainSize,
    entriesPerTable,
    entryBytes: SESPARSE_ENTRY_BYTES,
    directoryAt: bytesOf(name, fields.directoryAt, 'grain directory offset'),
    directoryEntries,
    redundantAt: undefined,
    damaged: false,
    zeroGrains: true,
    compressed: false,
    markers: false,
    unclean: false,
    descriptor: undefined,
    tables: { at, end, grainsAt },
    root: true,
  };
}

/** A read unpacks whole grains. VMware's are 64 KiB. */
const MAX_PACKED_GRAIN = 1024 * 1024;

/** VMware's are 32 KiB. */
const MAX_SESPARSE_TABLE = 1024 * 1024;

type Directories = Pick<SparseShape, 'directoryAt' | 'redundantAt' | 'damaged'>;

/** The grain directories that can be had: one of two is enough. */
function directories(storage: Storage, shape: SparseShape, limits: Limits): Directories {
  const { directoryEntries, entryBytes, directoryAt, redundantAt } = shape;
  const claim = (name: string, at: number): ImgfsError | undefined => {
    const maxBytes = Math.min(MAX.directoryBytes, limits.tableBytes);
    try {
      checkTable(storage, { name, at, entries: directoryEntries, entryBytes, maxBytes, alignment: SECTOR });
      return undefined;
    } catch (error) {
      if (error instanceof ImgfsError && error.reason !== 'io') return error;
      throw error;
    }
  };
  const failure = claim('grain directory', directoryAt);
  if (redundantAt === undefined) {
    if (failure !== undefined) throw failure;
    return { directoryAt, redundantAt, damaged: false };
  }
  const second = claim('redundant grain directory', redundantAt);
  if (failure === undefined) {
    return { directoryAt, redundantAt: second === undefined ? redundantAt : undefined, damaged: second !== undefined };
  }
  if (second !== undefined) throw failure;
  return { directoryAt: redundantAt, redundantAt: undefined, damaged: true };
}

function grainBytes(name: string, sectors: number): number {
  if (sectors === 0) throw corrupt(`${name}: grains without sectors`);
  if (sectors > MAX.grainSectors) {
    throw new ImgfsError('limit', `${name}: grains of ${sectors} sectors, the limit is ${MAX.grainSectors}`);
  }
  if (!Number.isInteger(Math.log2(sectors))) {
    throw new ImgfsError('unsupported', `${name}: grains of ${sectors} sectors, which is no power of two`);
  }
  return sectors * SECTOR;
}

function bytesOf(name: string, sectors: number, what: string): number {
  const bytes = sectors * SECTOR;
  if (!Number.isSafeInteger(bytes)) throw corrupt(`${name}: the ${what} is beyond 2^53`);
  return bytes;
}

/** The first bytes of the storage, shorter where it is. */
export function headOf(storage: Storage, length: number): Buffer {
  const bytes = asBuffer(new Uint8Array(length));
  return bytes.subarray(0, storage.read(bytes, 0));
}
