import type { NamedFile } from '../../image/image.js';
import { checkTable, type Limits, type TableClaim } from '../../image/limits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { storedText } from '../../lib/stored-text.js';
import { readPadded, readTable, type Storage } from '../../storage/storage.js';
import { type Extensions, incompatibleName, readExtensions, splitExtensions } from './extensions.js';
import {
  AUTOCLEAR,
  COMPATIBLE,
  type CryptoClaim,
  decodeHeader,
  decodeSignature,
  type Features,
  HEADER_BYTES,
  type HeaderFields,
  hasFeature,
  INCOMPATIBLE,
  MAGIC,
  MAX,
  MIN_CLUSTER_BITS,
  MIN_EXTENDED_CLUSTER_BITS,
  SUBCLUSTERS,
  unknownIncompatible,
} from './layout.js';
import { L1_ENTRY_BYTES } from './read/layout.js';

/** A header every field of which has passed its limit. All offsets and lengths are bytes. */
export interface Header {
  readonly version: 2 | 3;
  readonly size: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  /** Guest bytes one L2 table maps. */
  readonly tableSpan: number;
  readonly l1At: number;
  readonly l1Entries: number;
  readonly refcountTableAt: number;
  readonly refcountTableBytes: number;
  readonly refcountBits: number;
  readonly snapshotsAt: number;
  readonly snapshotCount: number;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  readonly lazyRefcounts: boolean;
  readonly extended: boolean;
  readonly compression: 'zlib' | 'zstd';
  readonly encryption: 'aes' | 'luks' | undefined;
  readonly crypto: CryptoClaim | undefined;
  readonly backing: NamedFile | undefined;
  /** Guest data lies in another file. */
  readonly external: boolean;
  readonly dataFileRaw: boolean;
  /** The bitmaps extension may be believed: no writer that ignores it has touched the image. */
  readonly bitmapsValid: boolean;
  readonly autoclear: Features;
  readonly extensions: Extensions;
  /** The header proper as stored, unknown bytes past the known fields included. */
  readonly stored: Uint8Array;
}

/**
 * Reads and validates the header cluster. Nothing else of the file is read, and no reference is followed. Throws
 * `corrupt`, `truncated`, `limit`, and `unsupported` for versions and incompatible features we do not know.
 */
export function readHeader(storage: Storage, limits: Limits): Header {
  const fields = readFields(storage);
  const cluster = Buffer.alloc(checkGeometry(fields, storage.name));
  readPadded(storage, cluster, 0);
  return headerIn(cluster, fields, storage, limits);
}

/** The same of a first cluster that is about to be written: nothing is read. */
export function headerOf(cluster: Buffer, storage: Storage, limits: Limits): Header {
  const head = Buffer.alloc(HEADER_BYTES.known);
  cluster.copy(head);
  return headerIn(cluster, decodeHeader(head, storage.name), storage, limits);
}

/** The first bytes of the image, for one who is about to write them again: all that the file has, zeros behind. */
export function readStart(storage: Storage, bytes: number): Buffer {
  const start = Buffer.alloc(bytes);
  readTable(storage, start.subarray(0, Math.min(bytes, storage.size())), 0, 'header');
  return start;
}

function headerIn(cluster: Buffer, fields: HeaderFields, storage: Storage, limits: Limits): Header {
  const name = storage.name;
  const clusterSize = checkGeometry(fields, name);
  const end = fields.backingAt === 0 ? clusterSize : fields.backingAt;
  const raw = splitExtensions(cluster, fields.headerBytes, end, name);
  for (const bit of unknownIncompatible(fields.incompatible)) {
    throw new ImgfsError('unsupported', `${name}: unknown incompatible feature ${incompatibleName(raw, bit)}`);
  }
  const extensions = readExtensions(raw, name);
  const extended = hasFeature(fields.incompatible, INCOMPATIBLE.extendedL2);
  const tableSpan = (clusterSize / (L1_ENTRY_BYTES * (extended ? 2 : 1))) * clusterSize;
  checkTables(storage, limits, fields, clusterSize, tableSpan);
  return {
    version: fields.version === 2 ? 2 : 3,
    size: fields.size,
    clusterBits: fields.clusterBits,
    clusterSize,
    tableSpan,
    l1At: fields.l1At,
    l1Entries: fields.l1Entries,
    refcountTableAt: fields.refcountTableAt,
    refcountTableBytes: fields.refcountTableClusters * clusterSize,
    refcountBits: 2 ** fields.refcountOrder,
    snapshotsAt: fields.snapshotsAt,
    snapshotCount: fields.snapshotCount,
    dirty: hasFeature(fields.incompatible, INCOMPATIBLE.dirty),
    corrupt: hasFeature(fields.incompatible, INCOMPATIBLE.corrupt),
    lazyRefcounts: hasFeature(fields.compatible, COMPATIBLE.lazyRefcounts),
    extended: checkExtended(fields, extended, name),
    compression: compressionOf(fields, name),
    ...encryptionOf(storage, fields, extensions),
    backing: backingOf(cluster, fields, extensions, name),
    ...dataFileOf(fields, name),
    bitmapsValid: hasFeature(fields.autoclear, AUTOCLEAR.bitmaps),
    autoclear: fields.autoclear,
    extensions,
    stored: cluster.subarray(0, fields.headerBytes),
  };
}

function readFields(storage: Storage): HeaderFields {
  const name = storage.name;
  const head = Buffer.alloc(HEADER_BYTES.known);
  readTable(storage, head.subarray(0, HEADER_BYTES.version2), 0, 'header');
  const { magic, version } = decodeSignature(head);
  if (magic !== MAGIC) throw corrupt(`${name}: not a qcow2 image (wrong magic)`);
  if (version < 2 || version > 3) throw new ImgfsError('unsupported', `${name}: qcow2 version ${version}`);
  if (version === 3) {
    readTable(storage, head.subarray(0, HEADER_BYTES.version3), 0, 'header');
    readPadded(storage, head, 0);
  }
  return decodeHeader(head, name);
}

/** The fields everything else is measured in. Returns the cluster size. */
function checkGeometry(fields: HeaderFields, name: string): number {
  const { clusterBits, headerBytes, backingAt } = fields;
  if (clusterBits < MIN_CLUSTER_BITS) throw corrupt(`${name}: clusters of 2^${clusterBits} bytes are too small`);
  if (clusterBits > MAX.clusterBits) {
    throw new ImgfsError('limit', `${name}: clusters of 2^${clusterBits} bytes, the limit is 2^${MAX.clusterBits}`);
  }
  const clusterSize = 2 ** clusterBits;
  if (fields.version === 3 && headerBytes < HEADER_BYTES.version3) {
    throw corrupt(`${name}: a header length of ${headerBytes} is too small`);
  }
  if (headerBytes > clusterSize) throw corrupt(`${name}: the header does not fit into the first cluster`);
  if (backingAt > clusterSize) throw corrupt(`${name}: the backing file name lies outside the first cluster`);
  if (fields.refcountOrder > MAX.refcountOrder) {
    throw corrupt(`${name}: refcounts of 2^${fields.refcountOrder} bits, at most 64 bits are allowed`);
  }
  return clusterSize;
}

/** Every table the header names, before anything of it is read or allocated. */
function checkTables(storage: Storage, limits: Limits, fields: HeaderFields, clusterSize: number, span: number): void {
  const name = storage.name;
  if (fields.size > limits.virtualSize) {
    throw new ImgfsError('limit', `${name}: a disk of ${fields.size} bytes, the limit is ${limits.virtualSize}`);
  }
  checkTable(storage, l1Claim(fields.l1At, fields.l1Entries, clusterSize, limits));
  if (fields.l1Entries < Math.ceil(fields.size / span))
    throw corrupt(`${name}: the L1 table is too small for the disk`);
  if (fields.refcountTableClusters === 0) throw corrupt(`${name}: the image has no refcount table`);
  checkTable(storage, {
    name: 'refcount table',
    at: fields.refcountTableAt,
    entries: fields.refcountTableClusters,
    entryBytes: clusterSize,
    maxBytes: Math.min(MAX.refcountTableBytes, limits.tableBytes),
    alignment: clusterSize,
  });
  const maxSnapshots = Math.min(MAX.snapshots, limits.snapshots);
  if (fields.snapshotCount > maxSnapshots) {
    throw new ImgfsError('limit', `${name}: ${fields.snapshotCount} snapshots, the limit is ${maxSnapshots}`);
  }
}

/** An L1 table as the header or a snapshot describes it, for `checkTable`. */
export function l1Claim(at: number, entries: number, clusterSize: number, limits: Limits): TableClaim {
  const maxBytes = Math.min(MAX.l1Bytes, limits.tableBytes);
  return { name: 'L1 table', at, entries, entryBytes: L1_ENTRY_BYTES, maxBytes, alignment: clusterSize };
}

function checkExtended(fields: HeaderFields, extended: boolean, name: string): boolean {
  if (extended && fields.clusterBits < MIN_EXTENDED_CLUSTER_BITS) {
    throw corrupt(`${name}: clusters of 2^${fields.clusterBits} bytes cannot be cut into ${SUBCLUSTERS} subclusters`);
  }
  return extended;
}

/** The type and its feature bit must agree: an old reader relies on the bit to refuse what is not zlib. */
function compressionOf(fields: HeaderFields, name: string): 'zlib' | 'zstd' {
  const type = fields.compressionType;
  const flagged = hasFeature(fields.incompatible, INCOMPATIBLE.compressionType);
  if (flagged && type === 0) throw corrupt(`${name}: the compression type bit is set for the default type`);
  if (!flagged && type !== 0) throw corrupt(`${name}: compression type ${type} without its feature bit`);
  if (type > 1) throw new ImgfsError('unsupported', `${name}: unknown compression type ${type}`);
  return type === 1 ? 'zstd' : 'zlib';
}

function encryptionOf(
  storage: Storage,
  fields: HeaderFields,
  extensions: Extensions,
): { encryption: 'aes' | 'luks' | undefined; crypto: CryptoClaim | undefined } {
  const { name } = storage;
  const { crypto } = extensions;
  if (fields.cryptMethod === 0) return { encryption: undefined, crypto: undefined };
  if (fields.cryptMethod === 1) return { encryption: 'aes', crypto: undefined };
  if (fields.cryptMethod > 2) {
    throw new ImgfsError('unsupported', `${name}: unknown encryption method ${fields.cryptMethod}`);
  }
  if (crypto === undefined) throw corrupt(`${name}: encrypted with LUKS, but without an encryption header`);
  if (crypto.at % 2 ** fields.clusterBits !== 0) throw corrupt(`${name}: the encryption header is not aligned`);
  if (crypto.at + crypto.bytes > storage.size()) {
    throw new ImgfsError('truncated', `${name}: the encryption header lies past the end of the file`);
  }
  return { encryption: 'luks', crypto };
}

function backingOf(cluster: Buffer, fields: HeaderFields, extensions: Extensions, name: string): NamedFile | undefined {
  const { backingAt: at, backingBytes: length } = fields;
  if (at === 0 || length === 0) return undefined;
  if (length > MAX.backingNameBytes) {
    throw new ImgfsError('limit', `${name}: a backing file name of ${length} bytes is too long`);
  }
  if (at + length > cluster.length) throw corrupt(`${name}: the backing file name overruns the first cluster`);
  const text = storedText(cluster.subarray(at, at + length));
  if (text === '') return undefined;
  const format = extensions.backingFormat;
  return format === undefined || format === '' ? { name: text } : { name: text, format };
}

function dataFileOf(fields: HeaderFields, name: string): { external: boolean; dataFileRaw: boolean } {
  const external = hasFeature(fields.incompatible, INCOMPATIBLE.dataFile);
  const dataFileRaw = hasFeature(fields.autoclear, AUTOCLEAR.dataFileRaw);
  if (dataFileRaw && !external) throw corrupt(`${name}: marked as raw external data, but without a data file`);
  return { external, dataFileRaw };
}
