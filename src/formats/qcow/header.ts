import type { NamedFile } from '../../image/image.js';
import { checkTable, type Limits } from '../../image/limits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { storedText } from '../../lib/stored-text.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { BOUNDS, CRYPT, decodeHeader, ENTRY_BYTES, HEADER_BYTES, type HeaderFields, MAGIC, VERSION } from './layout.js';

/** A header every field of which has passed its limit. All offsets and lengths are bytes. */
export interface Header {
  readonly size: number;
  readonly clusterBits: number;
  readonly clusterSize: number;
  readonly l2Entries: number;
  /** Guest bytes one L2 table maps. */
  readonly tableSpan: number;
  readonly l1At: number;
  readonly l1Entries: number;
  readonly encryption: 'aes' | undefined;
  /** Where the name of the backing file is stored; undefined without one. */
  readonly backing: (NamedFile & { readonly at: number; readonly bytes: number }) | undefined;
  readonly fields: HeaderFields;
}

/**
 * Reads and validates the header and the backing file's name. No reference is followed. Throws `corrupt`,
 * `truncated`, `limit`, and `unsupported` for versions and ways of encryption there never were.
 */
export function readHeader(storage: Storage, limits: Limits): Header {
  const { name } = storage;
  const bytes = Buffer.alloc(HEADER_BYTES);
  readTable(storage, bytes, 0, 'header');
  const fields = decodeHeader(bytes, name);
  if (fields.magic !== MAGIC) throw corrupt(`${name}: not a qcow image (wrong magic)`);
  if (fields.version !== VERSION) throw new ImgfsError('unsupported', `${name}: qcow version ${fields.version}`);
  checkGeometry(fields, name, limits);
  const geometry = geometryOf(fields);
  checkTable(storage, {
    name: 'L1 table',
    at: fields.l1At,
    entries: geometry.l1Entries,
    entryBytes: ENTRY_BYTES,
    // It is read in pieces: the size of the disk limits it.
    maxBytes: Number.MAX_SAFE_INTEGER,
    alignment: 1,
  });
  return { ...geometry, encryption: encryptionOf(fields, name), backing: backingOf(storage, fields), fields };
}

type Geometry = Omit<Header, 'encryption' | 'backing'>;

/** What follows from fields within their bounds. */
export function geometryOf(fields: HeaderFields): Geometry {
  const { size, clusterBits, l2Bits, l1At } = fields;
  const tableSpan = 2 ** (clusterBits + l2Bits);
  return {
    size,
    clusterBits,
    clusterSize: 2 ** clusterBits,
    l2Entries: 2 ** l2Bits,
    tableSpan,
    l1At,
    l1Entries: Math.ceil(size / tableSpan),
    fields,
  };
}

function checkGeometry({ size, clusterBits, l2Bits }: HeaderFields, name: string, limits: Limits): void {
  if (clusterBits < BOUNDS.clusterBits.least || clusterBits > BOUNDS.clusterBits.most) {
    throw corrupt(`${name}: clusters of 2^${clusterBits} bytes`);
  }
  if (l2Bits < BOUNDS.l2Bits.least || l2Bits > BOUNDS.l2Bits.most) {
    throw corrupt(`${name}: L2 tables of 2^${l2Bits} entries`);
  }
  if (size < BOUNDS.size.least) throw corrupt(`${name}: a disk of ${size} bytes`);
  if (size > limits.virtualSize) {
    throw new ImgfsError('limit', `${name}: a disk of ${size} bytes, the limit is ${limits.virtualSize}`);
  }
}

function encryptionOf({ cryptMethod }: HeaderFields, name: string): 'aes' | undefined {
  if (cryptMethod === CRYPT.none) return undefined;
  if (cryptMethod === CRYPT.aes) return 'aes';
  throw new ImgfsError('unsupported', `${name}: unknown encryption method ${cryptMethod}`);
}

/** No format is stored with the name: the file is probed. */
function backingOf(storage: Storage, { backingAt: at, backingBytes: bytes }: HeaderFields): Header['backing'] {
  if (at === 0 || bytes === 0) return undefined;
  if (bytes > BOUNDS.backingNameBytes) {
    throw new ImgfsError('limit', `${storage.name}: a backing file name of ${bytes} bytes is too long`);
  }
  const stored = Buffer.alloc(bytes);
  readTable(storage, stored, at, 'backing file name');
  const name = storedText(stored);
  return name === '' ? undefined : { name, at, bytes };
}
