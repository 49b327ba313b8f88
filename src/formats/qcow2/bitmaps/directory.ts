import type { DirtyBitmap } from '../../../image/image.js';
import { checkTable, type Limits } from '../../../image/limits.js';
import { bigEndianWords, roundUp } from '../../../lib/bits.js';
import { corrupt, ImgfsError } from '../../../lib/errors.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import type { Header } from '../header.js';
import { BITMAP_HEADER_BYTES, decodeBitmap, MAX } from '../layout.js';
import { entryOffset, hasOffset, L1_ENTRY_BYTES } from '../read/layout.js';

/** A persistent dirty bitmap, as the directory lists it. */
export interface BitmapEntry extends DirtyBitmap {
  /** Where its table lies. */
  readonly tableAt: number;
  readonly tableEntries: number;
  /** Where its entry lies in the directory. */
  readonly entryAt: number;
  /** The entry as stored, padded, fields we do not know included. */
  readonly stored: Buffer;
}

/** A range of the image file. */
export interface Range {
  readonly at: number;
  readonly bytes: number;
}

const MAX_GRANULARITY_BITS = 31;

/**
 * Lists the bitmaps; none where the autoclear bit says that the extension is stale. Every entry advances by at least
 * its header. Throws `corrupt`, `truncated`, `limit`.
 */
export function readBitmaps(storage: Storage, header: Header, limits: Limits): BitmapEntry[] {
  const claim = header.extensions.bitmaps;
  if (claim === undefined || !header.bitmapsValid) return [];
  const { name } = storage;
  const length = checkTable(storage, {
    name: 'bitmap directory',
    at: claim.at,
    entries: claim.bytes,
    entryBytes: 1,
    maxBytes: Math.min(MAX.bitmapDirectoryBytes, limits.tableBytes),
    alignment: header.clusterSize,
  });
  const directory = Buffer.alloc(length);
  readTable(storage, directory, claim.at, 'bitmap directory');
  const found: BitmapEntry[] = [];
  for (let at = 0; at < length; ) {
    if (found.length === claim.count) throw corrupt(`${name}: the bitmap directory is longer than its bitmaps`);
    const { entry, end } = readEntry(directory, at, name);
    found.push(entry);
    at = end;
  }
  if (found.length < claim.count) throw corrupt(`${name}: the bitmap directory ends before its last bitmap`);
  return found;
}

/** Every range the bitmaps take up: directory, tables, clusters of bits. Throws as `readBitmaps`. */
export function* bitmapRanges(storage: Storage, header: Header, limits: Limits): Generator<Range> {
  const claim = header.extensions.bitmaps;
  if (claim === undefined || !header.bitmapsValid) return;
  yield { at: claim.at, bytes: claim.bytes };
  for (const entry of readBitmaps(storage, header, limits)) {
    const words = readBitmapTable(storage, header, limits, entry);
    yield { at: entry.tableAt, bytes: entry.tableEntries * L1_ENTRY_BYTES };
    for (let i = 0; i < words.length; i += 2) {
      if (hasOffset(words[i]!, words[i + 1]!)) {
        yield { at: entryOffset(words[i]!, words[i + 1]!), bytes: header.clusterSize };
      }
    }
  }
}

/** A bitmap's table, as words: where its clusters of bits lie. Throws `corrupt`, `truncated`, `limit`. */
export function readBitmapTable(
  storage: Storage,
  { clusterSize }: Header,
  limits: Limits,
  { tableAt, tableEntries }: Pick<BitmapEntry, 'tableAt' | 'tableEntries'>,
): Uint32Array {
  const bytes = checkTable(storage, {
    name: 'bitmap table',
    at: tableAt,
    entries: tableEntries,
    entryBytes: L1_ENTRY_BYTES,
    maxBytes: limits.tableBytes,
    alignment: clusterSize,
  });
  const table = new Uint8Array(bytes);
  readTable(storage, table, tableAt, 'bitmap table');
  return bigEndianWords(table);
}

function readEntry(directory: Buffer, at: number, name: string): { entry: BitmapEntry; end: number } {
  const overrun = `${name}: the bitmap directory ends inside an entry`;
  if (at + BITMAP_HEADER_BYTES > directory.length) throw corrupt(overrun);
  const fields = decodeBitmap(directory, at, name);
  const nameAt = at + BITMAP_HEADER_BYTES + fields.extraBytes;
  const nameEnd = nameAt + fields.nameBytes;
  if (nameEnd > directory.length) throw corrupt(overrun);
  if (fields.nameBytes > MAX.bitmapNameBytes) throw new ImgfsError('limit', `${name}: a bitmap's name is too long`);
  if (fields.granularityBits > MAX_GRANULARITY_BITS) throw corrupt(`${name}: a bitmap's granularity is impossible`);
  const end = at + roundUp(nameEnd - at, 8);
  const entry = {
    name: directory.toString('utf8', nameAt, nameEnd),
    granularity: 2 ** fields.granularityBits,
    inUse: fields.inUse,
    auto: fields.auto,
    tableAt: fields.tableAt,
    tableEntries: fields.tableEntries,
    entryAt: at,
    stored: directory.subarray(at, end),
  };
  return { entry, end };
}
