import type { Storage } from '../storage/storage.js';
import type { ImageInfo } from './image.js';
import type { Layer, Mapping } from './mapping.js';
import { UNIT_CELL, type UnitRun, type UnitTables } from './units.js';

/** Runs that may wait; together with the call once a second this bounds what a killed process can lose. */
export const PENDING_MAX = 256;

/** Numbers per record: guest offset, length, number of the storage, host offset, bytes of a packed unit or 0. */
const FIELDS = 5;

/**
 * Units whose data was written but may not be durable yet. An entry that reached the medium before its data would show
 * neither old nor new bytes after a crash, so these wait for a barrier, a group at a time. The records lie in memory
 * that all threads share, so that guests see them at once, whichever thread asks.
 */
export class PendingUnits {
  constructor(
    private readonly cells: Float64Array,
    private readonly storages: readonly Storage[],
  ) {}

  get count(): number {
    return this.cells[UNIT_CELL.pendingCount]!;
  }

  get full(): boolean {
    return this.count >= PENDING_MAX;
  }

  /** A run that continues the last one, in the guest and on the host, becomes part of it. */
  add({ start, length, storage, offset, packed = 0 }: UnitRun): void {
    const { cells, count } = this;
    const file = this.storages.indexOf(storage);
    const last = UNIT_CELL.pending + (count - 1) * FIELDS;
    if (count > 0 && cells[last + 2] === file && packed === 0 && cells[last + 4] === 0) {
      const had = cells[last + 1]!;
      if (cells[last]! + had === start && cells[last + 3]! + had === offset) {
        cells[last + 1] = had + length;
        return;
      }
    }
    if (this.full) throw new Error('too many pending units');
    cells.set([start, length, file, offset, packed], last + FIELDS);
    cells[UNIT_CELL.pendingCount] = count + 1;
  }

  /** The latest run that holds guest offset `at`: a packed unit may have got another place since. */
  holding(at: number): UnitRun | undefined {
    const { cells } = this;
    for (let n = UNIT_CELL.pending + (this.count - 1) * FIELDS; n >= UNIT_CELL.pending; n -= FIELDS) {
      if (cells[n]! <= at && at < cells[n]! + cells[n + 1]!) return this.run(n);
    }
    return undefined;
  }

  /** Guest bytes from `at` to where the next run begins; at most `length`. */
  gap(at: number, length: number): number {
    const { cells } = this;
    const end = UNIT_CELL.pending + this.count * FIELDS;
    let gap = length;
    for (let n = UNIT_CELL.pending; n < end; n += FIELDS) {
      const distance = cells[n]! - at;
      if (distance > 0 && distance < gap) gap = distance;
    }
    return gap;
  }

  runs(): readonly UnitRun[] {
    return Array.from({ length: this.count }, (_, n) => this.run(UNIT_CELL.pending + n * FIELDS));
  }

  /** All are in the file now. */
  clear(): void {
    this.cells[UNIT_CELL.pendingCount] = 0;
  }

  private run(n: number): UnitRun {
    const [start, length, file, offset, packed] = this.cells.subarray(n, n + FIELDS);
    const storage = this.storages[file!];
    if (storage === undefined) throw new Error('a pending unit in no storage');
    return { start: start!, length: length!, storage, offset: offset!, packed: packed || undefined };
  }
}

/** A layer as the guest sees it: what its tables say, and over it the units whose entries are still pending. */
export class CoveredLayer implements Layer {
  readonly blockSize: number;
  readonly info: ImageInfo;

  constructor(
    private readonly layer: Layer,
    private readonly pending: PendingUnits,
    private readonly tables: UnitTables,
  ) {
    this.blockSize = layer.blockSize;
    this.info = layer.info;
  }

  get size(): number {
    return this.layer.size;
  }

  map(at: number, length: number): Mapping {
    const { pending, layer } = this;
    return pending.count === 0
      ? layer.map(at, length)
      : (this.pendingAt(at, length) ?? layer.map(at, pending.gap(at, length)));
  }

  mapInDetail(at: number, length: number): Mapping {
    const known = this.pendingAt(at, length);
    if (known !== undefined) return known;
    const gap = this.pending.gap(at, length);
    return this.layer.mapInDetail?.(at, gap) ?? this.layer.map(at, gap);
  }

  hostBytes(): number {
    return this.layer.hostBytes();
  }

  close(): void {
    this.layer.close();
  }

  private pendingAt(at: number, length: number): Mapping | undefined {
    const run = this.pending.holding(at);
    if (run === undefined) return undefined;
    const within = at - run.start;
    const rest = this.pending.gap(at, Math.min(length, run.length - within));
    if (run.packed !== undefined && this.tables.packed !== undefined) {
      return { kind: 'packed', length: rest, unit: this.tables.packed.unit(run, within) };
    }
    return {
      kind: 'data',
      length: rest,
      storage: this.tables.content?.(run) ?? run.storage,
      offset: run.offset + within,
      ours: true,
    };
  }
}
