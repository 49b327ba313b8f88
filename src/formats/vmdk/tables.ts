/** Grain directories and grain tables of one sparse extent: where they lie, and which copy of them counts. */
import type { Health } from '../../image/health.js';
import type { Limits } from '../../image/limits.js';
import { ALONE, type Sharing } from '../../image/sharing.js';
import { type Table, TableCache } from '../../image/table-cache.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import type { SparseShape } from './header.js';
import { SECTOR, seSparseTable } from './layout.js';

/** Tables are kept in pieces of at most this. */
const PIECE_BYTES = 4096;

/** Places of tables that are remembered. */
const MAX_PLACES = 4096;

/** What all extents of a disk keep of their tables, within `limits.cacheBytes`. */
export class DiskTables {
  readonly directories: TableCache;
  readonly tables: TableCache;

  constructor(limits: Limits, sharing: Sharing | undefined, health: Health) {
    const stamps = sharing ?? ALONE;
    this.directories = new TableCache(PIECE_BYTES, limits.cacheBytes / 8, stamps, health);
    this.tables = new TableCache(PIECE_BYTES, (limits.cacheBytes / 8) * 7, stamps, health);
  }
}

/** A grain table and its copy. */
export interface GrainTable {
  readonly table: Table;
  readonly copy: Table | undefined;
  /** Only one of two copies can be had: it may be read, and not written before it is repaired. */
  readonly damaged: boolean;
  /** What the directory says: where this still stands, the rest is still true. */
  readonly entry: number;
}

export class GrainTables {
  readonly directory: Table;
  readonly redundant: Table | undefined;
  private readonly tableBytes: number;
  private readonly places = new Map<number, GrainTable>();

  /** `file` tells the files of one disk apart. */
  constructor(
    private readonly storage: Storage,
    private readonly shape: SparseShape,
    readonly caches: DiskTables,
    private readonly file: number,
  ) {
    const { directoryEntries, entryBytes, entriesPerTable, directoryAt, redundantAt } = shape;
    this.tableBytes = entriesPerTable * entryBytes;
    const bytes = directoryEntries * entryBytes;
    this.directory = { storage, file, at: directoryAt, bytes, what: 'grain directory' };
    if (redundantAt !== undefined) this.redundant = { ...this.directory, at: redundantAt };
  }

  /**
   * Grain table `n`; undefined where there is none, which makes all it maps a hole. Throws `corrupt` or `truncated`
   * where neither copy of it can be had.
   */
  find(n: number): GrainTable | undefined {
    const entry = this.entry(this.directory, n);
    if (entry === undefined) return undefined;
    const known = this.places.get(n);
    if (known?.entry === entry) return known;
    const found = this.resolve(n, entry);
    if (this.places.size >= MAX_PLACES) this.places.clear();
    this.places.set(n, found);
    return found;
  }

  /** How many tables from `n` on, at most `most`, are missing. */
  missing(n: number, most: number): number {
    const end = Math.min(n + most, this.shape.directoryEntries);
    let next = n;
    while (next < end && this.entry(this.directory, next) === undefined) next++;
    return next === this.shape.directoryEntries ? most : next - n;
  }

  /** Host offset of table `n` by one directory; undefined for none, `NaN` for what is no offset. */
  entry(directory: Table, n: number): number | undefined {
    const { entryBytes, tables } = this.shape;
    const piece = this.caches.directories.piece(directory, n * entryBytes);
    const at = n * entryBytes - piece.from;
    const low = piece.bytes.readUInt32LE(at);
    if (tables === undefined) return low === 0 ? undefined : low * SECTOR;
    const table = seSparseTable(low, piece.bytes.readUInt32LE(at + 4));
    return table === undefined ? undefined : tables.at + table * this.tableBytes;
  }

  /** A table at host offset `at`. */
  tableAt(at: number): Table {
    return { storage: this.storage, file: this.file, at, bytes: this.tableBytes, what: 'grain table' };
  }

  /** Throws `corrupt` or `truncated` unless a table may lie there: behind the header and within the file. */
  assertPlaced(at: number, n: number): void {
    const { storage, tableBytes, shape } = this;
    const end = at + tableBytes;
    if (!(at >= SECTOR) || (shape.tables !== undefined && end > shape.tables.end)) {
      throw corrupt(`${storage.name}: entry ${n} of the grain directory does not lead to a grain table`);
    }
    if (end > storage.size()) {
      throw new ImgfsError('truncated', `${storage.name}: the image ends before its grain table ${n}`);
    }
  }

  /** What the first directory says counts, whatever the second one says; where it is damaged, the second one counts. */
  private resolve(n: number, entry: number): GrainTable {
    const copyAt = this.redundant === undefined ? undefined : this.placed(this.entry(this.redundant, n), n);
    const copy = typeof copyAt === 'number' ? this.tableAt(copyAt) : undefined;
    const place = this.placed(entry, n);
    if (typeof place === 'number') {
      return { table: this.tableAt(place), copy, damaged: this.redundant !== undefined && copy === undefined, entry };
    }
    if (copy === undefined) throw place;
    return { table: copy, copy: undefined, damaged: true, entry };
  }

  /** The offset if a table may lie there, else why not. */
  private placed(at: number | undefined, n: number): number | ImgfsError {
    try {
      this.assertPlaced(at ?? 0, n);
      return at ?? 0;
    } catch (error) {
      if (error instanceof ImgfsError && (error.reason === 'corrupt' || error.reason === 'truncated')) return error;
      throw error;
    }
  }
}
