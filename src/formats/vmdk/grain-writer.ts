/** Changing one sparse extent: new grains at its end, entries in both copies of its tables, tables where there are none. */
import { FileEnd } from '../../image/file-end.js';
import type { Health } from '../../image/health.js';
import { rewrite } from '../../image/rewrite.js';
import { ALONE, type Sharing, type Stamps } from '../../image/sharing.js';
import type { Table } from '../../image/table-cache.js';
import type { Space } from '../../image/units.js';
import { roundDown, roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { ANNOUNCED } from './cells.js';
import { COWD_FREE_AT, ENTRY_BYTES, HEADER_BYTES, SECTOR } from './layout.js';
import { Places } from './places.js';
import type { SparseExtent } from './sparse.js';
import type { GrainTable } from './tables.js';

/** Entries count sectors in 32 bits. */
const END_OF_REACH = (2 ** 32 - 1) * SECTOR;
const ZERO = 1;
/** Tables that are made at once. */
const MAX_TABLES = 4096;
/** Bumped when a table gets a place: keys of pieces of tables are never 0. */
const PLACES_STAMP = 0;

export interface GrainWriterParts {
  readonly extent: SparseExtent;
  readonly health: Health;
  readonly sharing: Sharing | undefined;
  readonly cells: Float64Array;
}

export class GrainWriter {
  readonly storage: Storage;
  private readonly extent: SparseExtent;
  private readonly health: Health;
  private readonly stamps: Stamps;
  private readonly cells: Float64Array;
  private readonly end: FileEnd;
  private known: { readonly places: Places; readonly stamp: number } | undefined;

  constructor({ extent, health, sharing, cells }: GrainWriterParts) {
    this.extent = extent;
    this.storage = extent.storage;
    this.health = health;
    this.stamps = sharing ?? ALONE;
    this.cells = cells;
    this.end = new FileEnd(extent.storage, health, cells, extent.grainSize);
  }

  /** Space for the grains from the extent's byte `at` on that lie in one grain table, which exists on return. */
  take(at: number, length: number): Space {
    const { storage } = this;
    const n = this.tableOf(at);
    this.ownTable(n);
    const most = Math.min(length, (n + 1) * this.extent.span - at);
    const { offset, fresh } = this.reserve(roundUp(most, this.extent.grainSize));
    return { storage, offset, length: most, fresh };
  }

  giveBack({ offset, length }: Space): void {
    this.end.giveBack(offset, roundUp(length, this.extent.grainSize));
  }

  /** Enters grains that lie one after the other from host offset `offset` on. They may belong to several tables. */
  enter(at: number, length: number, offset: number): void {
    const step = this.extent.grainSize / SECTOR;
    this.eachTable(at, length, (n, first, count, done) => {
      const entries = Buffer.alloc(count * ENTRY_BYTES);
      const sector = offset / SECTOR + done * step;
      for (let i = 0; i < count; i++) entries.writeUInt32LE(sector + i * step, i * ENTRY_BYTES);
      this.write(n, first, entries);
    });
  }

  /** Makes the grains in the range read as zeros by their entries. */
  enterZeros(at: number, length: number): void {
    this.eachTable(at, length, (n, first, count) => {
      const entries = Buffer.alloc(count * ENTRY_BYTES);
      for (let i = 0; i < count; i++) entries.writeUInt32LE(ZERO, i * ENTRY_BYTES);
      this.write(n, first, entries);
    });
  }

  /** Whether a header, the descriptor or a table lies in the range. */
  holdsTable(offset: number, length: number): boolean {
    const stamp = this.stamps.stamp(PLACES_STAMP);
    if (this.known?.stamp !== stamp) this.known = { places: this.collect(), stamp };
    return this.known.places.touches(offset, length);
  }

  /** Makes every table exist that maps bytes below `size`: a reader may not expect one to be missing. */
  ownTables(size: number): void {
    const { tables, span } = this.extent;
    const end = Math.ceil(size / span);
    for (let n = 0; n < end; ) {
      const count = Math.min(MAX_TABLES, tables.missing(n, end - n));
      if (count > 0) this.makeTables(n, count);
      n += Math.max(1, count);
    }
  }

  /** Fresh space for something else than grains; reads as zeros, durably. */
  takeFresh(length: number): number {
    const { offset, fresh } = this.reserve(roundUp(length, this.extent.grainSize));
    if (!fresh) {
      this.storage.write(Buffer.alloc(length), offset);
      this.health.barrier(this.storage);
    }
    return offset;
  }

  /** Tables have moved or are new: every thread looks again. */
  moved(): void {
    this.stamps.bump(PLACES_STAMP);
    this.known = undefined;
  }

  settle(): void {
    this.end.settle();
    if (this.cells[ANNOUNCED]! > 0) this.announce(this.storage.size());
  }

  private tableOf(at: number): number {
    return Math.floor(at / this.extent.span);
  }

  private reserve(length: number): { readonly offset: number; readonly fresh: boolean } {
    const taken = this.end.take(length);
    if (taken.offset + length > END_OF_REACH) {
      this.end.giveBack(taken.offset, length);
      throw new ImgfsError('no-space', `${this.storage.name}: a sparse extent cannot be larger than 2 TiB`);
    }
    const { kind } = this.extent.shape;
    // VMware goes on where the header says, whatever the length of the file.
    if (kind === 'cowd' && taken.offset + length > this.cells[ANNOUNCED]!) {
      this.announce(this.storage.size());
      this.health.barrier(this.storage);
    }
    return taken;
  }

  /** Says in a COWD header that the file is used up to `end`. */
  private announce(end: number): void {
    const old = Buffer.alloc(SECTOR);
    readTable(this.storage, old, 0, 'header');
    const bytes = Buffer.from(old);
    bytes.writeUInt32LE(Math.min(end / SECTOR, 2 ** 32 - 1), COWD_FREE_AT);
    rewrite(this.storage, { at: 0, bytes, old }, this.health);
    this.cells[ANNOUNCED] = end;
  }

  private eachTable(
    at: number,
    length: number,
    action: (table: number, first: number, count: number, done: number) => void,
  ): void {
    const { span, grainSize } = this.extent;
    for (let here = at; here < at + length; ) {
      const n = this.tableOf(here);
      const end = Math.min(at + length, (n + 1) * span);
      action(n, (here - n * span) / grainSize, Math.ceil((end - here) / grainSize), (here - at) / grainSize);
      here = end;
    }
  }

  /**
   * Writes entries of table `n` from entry `first` on: the copy first, because the table itself is what counts. The copy
   * gets whole sectors of what the table then holds: where a crash had left it behind, it catches up.
   */
  private write(n: number, first: number, entries: Buffer): void {
    const { table, copy } = this.ownTable(n);
    const { tables } = this.extent.tables.caches;
    const at = first * ENTRY_BYTES;
    if (copy !== undefined) {
      const from = roundDown(at, SECTOR);
      const sectors = Buffer.alloc(roundUp(at + entries.length, SECTOR) - from);
      for (let done = 0; done < sectors.length; done += SECTOR) {
        const piece = tables.piece(table, from + done);
        piece.bytes.copy(sectors, done, from + done - piece.from, from + done - piece.from + SECTOR);
      }
      entries.copy(sectors, at - from);
      tables.write(copy, from, sectors);
    }
    tables.write(table, at, entries);
  }

  /** Table `n`, made if there is none. Throws `corrupt` where only one of its copies is left. */
  private ownTable(n: number): GrainTable {
    const found = this.extent.tables.find(n) ?? this.makeTable(n);
    if (!found.damaged) return found;
    throw corrupt(
      `${this.storage.name}: of the two copies of grain table ${n} one is lost: run imgfs check -r all on it`,
    );
  }

  private makeTable(n: number): GrainTable {
    this.makeTables(n, 1);
    const made = this.extent.tables.find(n);
    if (made === undefined) throw new Error('a new grain table is missing');
    return made;
  }

  /** Empty tables from `n` on, side by side and durable before a directory leads there. */
  private makeTables(n: number, count: number): void {
    const { redundant, directory } = this.extent.tables;
    const bytes = count * this.extent.tables.tableAt(0).bytes;
    const at = this.takeFresh(redundant === undefined ? bytes : bytes * 2);
    if (redundant !== undefined) this.enterTables(redundant, n, count, at + bytes);
    this.enterTables(directory, n, count, at);
    this.moved();
  }

  private enterTables(directory: Table, n: number, count: number, at: number): void {
    const { tables } = this.extent;
    const step = tables.tableAt(0).bytes;
    const entries = Buffer.alloc(count * ENTRY_BYTES);
    for (let i = 0; i < count; i++) entries.writeUInt32LE((at + i * step) / SECTOR, i * ENTRY_BYTES);
    tables.caches.directories.write(directory, n * ENTRY_BYTES, entries);
  }

  /** Both directories are believed for this: what one of them calls a table is not overwritten. */
  private collect(): Places {
    const { tables, shape } = this.extent;
    const places = new Places();
    places.add(0, HEADER_BYTES[shape.kind]);
    if (shape.descriptor !== undefined) places.add(shape.descriptor.at, shape.descriptor.length);
    for (const directory of [tables.directory, tables.redundant]) {
      if (directory === undefined) continue;
      places.add(directory.at, directory.bytes);
      for (let n = 0; n < directory.bytes / ENTRY_BYTES; n++) {
        const at = tables.entry(directory, n);
        if (at !== undefined) places.add(at, tables.tableAt(at).bytes);
      }
    }
    return places;
  }
}
