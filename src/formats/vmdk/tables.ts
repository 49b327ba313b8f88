/** Grain directories and grain tables of one sparse extent: where they lie, and which copy of them counts. */
import type { Health } from '../../image/health.js';
import type { Limits } from '../../image/limits.js';
import { ALONE, type Sharing } from '../../image/sharing.js';
import { type Table, TableCache } from '../../image/table-cache.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { CELL } from './cells.js';
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
  private current: { readonly directory: Table; readonly redundant: Table | undefined };
  private readonly tableBytes: number;
  private readonly places = new Map<number, GrainTable>();

  /**
   * `file` tells the files of one disk apart. `cells` are those of a disk that is one extent: its directories move
   * when it grows.
   */
  constructor(
    private readonly storage: Storage,
    private readonly shape: SparseShape,
    readonly caches: DiskTables,
    private readonly file: number,
    private readonly cells: Float64Array | undefined,
  ) {
    this.tableBytes = shape.entriesPerTable * shape.entryBytes;
    this.current = this.directories(shape.directoryAt, shape.redundantAt, shape.directoryEntries);
  }

  /** The directory that counts. */
  get directory(): Table {
    this.follow();
    return this.current.directory;
  }

  get redundant(): Table | undefined {
    this.follow();
    return this.current.redundant;
  }

  get entries(): number {
    return this.directory.bytes / this.shape.entryBytes;
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
    const { directory, entries } = this;
    const end = Math.min(n + most, entries);
    let next = n;
    while (next < end && this.entry(directory, next) === undefined) next++;
    return next === entries ? most : next - n;
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

  private follow(): void {
    const { cells, current, shape } = this;
    const at = cells?.[CELL.directoryAt] ?? 0;
    if (cells === undefined || at === 0 || at === current.directory.at) return;
    const second = shape.redundantAt === undefined ? undefined : cells[CELL.redundantAt]!;
    this.current = this.directories(at, second, cells[CELL.directoryEntries]!);
  }

  private directories(at: number, second: number | undefined, entries: number): typeof this.current {
    const { storage, file, shape } = this;
    const directory = { storage, file, at, bytes: entries * shape.entryBytes, what: 'grain directory' };
    return { directory, redundant: second === undefined ? undefined : { ...directory, at: second } };
  }

  /** What the first directory says counts, whatever the second one says; where it is damaged, the second one counts. */
  private resolve(n: number, entry: number): GrainTable {
    const { redundant } = this;
    const copyAt = redundant === undefined ? undefined : this.placed(this.entry(redundant, n), n);
    const copy = typeof copyAt === 'number' ? this.tableAt(copyAt) : undefined;
    const place = this.placed(entry, n);
    if (typeof place === 'number') {
      return { table: this.tableAt(place), copy, damaged: redundant !== undefined && copy === undefined, entry };
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
