/** Putting the two copies of the tables of a hosted sparse extent right again, from whichever copy is sound. */
import type { CheckOptions } from '../../image/check.js';
import type { Table } from '../../image/table-cache.js';
import { asBuffer, roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import { readTable } from '../../storage/storage.js';
import { holds } from './census.js';
import { CLEAN_AT, ENTRY_BYTES, putHostedSize, SECTOR } from './layout.js';
import type { SparseExtent } from './sparse.js';
import type { GrainTable } from './tables.js';

/**
 * `leaks` makes second copies equal to the first. `all` also gives back what lost one of its copies, behind the end of
 * the file: nothing that is there is overwritten before the new copy is durable. Compressed extents are left alone.
 * Says between two writes how far it has come with this extent, from 0 to 1.
 */
export function* mend(extent: SparseExtent, { repair, tell }: CheckOptions): Generator<number> {
  const { shape, storage, tables } = extent;
  if (shape.kind !== 'hosted' || shape.compressed || !storage.writable) return;
  const count = Math.ceil(extent.size / extent.span);
  const known: (GrainTable | undefined)[] = [];
  for (let n = 0; n < count; n++) {
    const found = sound(() => tables.find(n));
    if (found === 'lost') {
      tell(`${storage.name}: nothing is repaired, a grain table is lost in both copies`);
      return;
    }
    known.push(found);
    yield 0;
  }
  for (const [n, one] of known.entries()) {
    if (one !== undefined) equalise(one);
    yield n / count;
  }
  storage.flush();
  if (repair === 'leaks') return;
  if (shape.damaged) {
    yield* newDirectory(extent, known);
    return;
  }
  for (const [n, one] of known.entries()) {
    if (one?.damaged !== true) continue;
    newCopy(extent, n, one);
    yield n / count;
  }
}

/** The table, none, or `lost` where it cannot be had. */
function sound(find: () => GrainTable | undefined): GrainTable | undefined | 'lost' {
  try {
    return find();
  } catch (error) {
    if (error instanceof ImgfsError && error.reason !== 'io') return 'lost';
    throw error;
  }
}

function contentOf(table: Table): Buffer {
  const bytes = asBuffer(new Uint8Array(table.bytes));
  readTable(table.storage, bytes, table.at, table.what);
  return bytes;
}

function equalise({ table, copy }: GrainTable): void {
  if (copy === undefined) return;
  const bytes = contentOf(table);
  if (!holds(copy, bytes)) copy.storage.write(bytes, copy.at);
}

/** Writes bytes behind the end of the file and returns where. */
function append({ storage, grainSize }: SparseExtent, bytes: Buffer): number {
  const at = roundUp(storage.size(), Math.max(SECTOR, grainSize));
  storage.resize(at + roundUp(bytes.length, Math.max(SECTOR, grainSize)));
  storage.write(bytes, at);
  return at;
}

/** Another copy of a table of which one was left, entered where the lost one was. */
function newCopy(extent: SparseExtent, n: number, { table }: GrainTable): void {
  const { storage, tables } = extent;
  const { directory, redundant } = tables;
  const first = tables.entry(directory, n) === table.at;
  const into = first ? redundant : directory;
  if (into === undefined) return;
  const at = append(extent, contentOf(table));
  storage.flush();
  storage.write(sectorEntry(at), into.at + n * ENTRY_BYTES);
  storage.flush();
}

/** A second directory with tables of its own, in place of the one that does not lie in the file. */
function* newDirectory(extent: SparseExtent, found: readonly (GrainTable | undefined)[]): Generator<number> {
  const { storage, tables, size } = extent;
  const entries = Buffer.alloc(tables.directory.bytes);
  for (const [n, one] of found.entries()) {
    if (one !== undefined) sectorEntry(append(extent, contentOf(one.table))).copy(entries, n * ENTRY_BYTES);
    yield n / found.length;
  }
  const at = append(extent, entries);
  storage.flush();
  const header = Buffer.alloc(SECTOR);
  readTable(storage, header, 0, 'header');
  putHostedSize(header, {
    capacity: size / SECTOR,
    directoryAt: tables.directory.at / SECTOR,
    redundantAt: at / SECTOR,
  });
  storage.write(header, 0);
  storage.flush();
}

/** Nothing is wrong: what an unfinished writer left is nothing to fear. */
export function markClean({ storage, shape }: SparseExtent): void {
  if (!shape.unclean || shape.kind === 'sesparse' || !storage.writable) return;
  storage.write(Buffer.alloc(1), CLEAN_AT[shape.kind]);
  storage.flush();
}

function sectorEntry(at: number): Buffer {
  const entry = Buffer.alloc(ENTRY_BYTES);
  entry.writeUInt32LE(at / SECTOR);
  return entry;
}
