import { corrupt } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { Health } from './health.js';
import type { Image, Packing } from './image.js';
import type { Layer, MappedImageParts } from './mapping.js';
import { CoveredLayer, PendingUnits } from './pending-units.js';
import type { Sharing } from './sharing.js';
import { type Space, UNIT_CELL, type UnitRun, type UnitTables, unitCells } from './units.js';
import type { LayerWriter, Placement } from './writer.js';

export interface UnitParts {
  readonly tables: UnitTables;
  /** The layer by its tables alone. Mappings of what is stored are `ours`. */
  readonly layer: Layer;
  readonly health: Health;
  readonly sharing: Sharing | undefined;
  /** What lies below, where something does. Only looked at where absent units are made zeros. */
  readonly backing: Image | undefined;
}

/** Makes a layer cut in units writable: the layer as the guest then sees it, pending units included, and its writer. */
export function writableUnits(parts: UnitParts): Required<Pick<MappedImageParts, 'layer' | 'writing'>> {
  const cells = unitCells(parts.sharing);
  const pending = new PendingUnits(cells, parts.tables.storages);
  const layer = new CoveredLayer(parts.layer, pending, parts.tables);
  return { layer, writing: { writer: new UnitWriter({ ...parts, layer, pending, cells }), health: parts.health } };
}

interface UnitWriterParts extends UnitParts {
  readonly pending: PendingUnits;
  readonly cells: Float64Array;
}

/**
 * The writer of every format cut in units (units.ts). The order of its writes: data; then, where it must be durable
 * before an entry leads to it, a barrier for a group of units; then the entries. Where data and host space both were
 * zeros before, data and entry may reach the medium in any order. A unit that has its place keeps it: it is overwritten,
 * and zeros are holes punched there, without touching a table.
 */
class UnitWriter implements LayerWriter {
  readonly unit: number;
  private readonly tables: UnitTables;
  private readonly layer: Layer;
  private readonly pending: PendingUnits;
  private readonly cells: Float64Array;
  private readonly health: Health;
  private readonly backing: Image | undefined;

  constructor({ tables, layer, pending, cells, health, backing }: UnitWriterParts) {
    this.unit = tables.unit;
    this.tables = tables;
    this.layer = layer;
    this.pending = pending;
    this.cells = cells;
    this.health = health;
    this.backing = backing;
  }

  get ready(): boolean {
    return this.cells[UNIT_CELL.started] === 1;
  }

  prepare(): void {
    if (this.ready) return;
    this.tables.prepare();
    this.cells[UNIT_CELL.started] = 1;
  }

  guard(storage: Storage, offset: number, length: number): void {
    if (!this.tables.holdsTable(storage, offset, length)) return;
    throw this.health.damage(corrupt(`${storage.name}: a write would have landed on a table, at ${offset}`));
  }

  allocate(at: number, length: number): Placement {
    if (this.pending.full) this.publish();
    const start = this.tables.unitAt(at).start;
    const space = this.tables.take(start, this.absent(start, at, at + length) - start);
    try {
      this.guard(space.storage, space.offset, space.length);
      return this.placement(start, space);
    } catch (error) {
      this.tables.giveBack(space);
      throw error;
    }
  }

  get packing(): Packing | undefined {
    const { packed, unit } = this.tables;
    return packed && { unit, method: packed.method, always: false };
  }

  /** A stream that is not durable is worth nothing: its entry always waits for a barrier. */
  writePacked(bytes: Uint8Array, at: number): void {
    const { tables, pending } = this;
    const { packed, unit } = tables;
    if (packed === undefined || bytes.length === 0 || bytes.length >= unit) {
      throw new RangeError(`${bytes.length} bytes are no unit of ${unit}, packed`);
    }
    if (pending.full) this.publish();
    const space = packed.take(at, bytes.length);
    const { storage, offset } = space;
    try {
      this.guard(storage, offset, bytes.length);
      storage.write(bytes, offset);
    } catch (error) {
      packed.giveBack(space);
      throw error;
    }
    pending.add({ start: at, length: unit, storage, offset, packed: bytes.length });
  }

  zero(at: number, length: number, { unmap }: { readonly unmap: boolean }): number {
    if (this.tables.unitAt(at).start !== at) return 0;
    const mapping = this.layer.map(at, length);
    const whole = this.wholeUnits(at, mapping.length);
    if (whole === 0) return 0;
    if (mapping.kind === 'zero') return Math.min(whole, length);
    if (mapping.kind === 'data') {
      // Space that is to be kept is overwritten with zeros: by whoever asked.
      if (!unmap || mapping.ours !== true) return 0;
      this.guard(mapping.storage, mapping.offset, whole);
      mapping.storage.discard(mapping.offset, whole);
      return Math.min(whole, length);
    }
    // An entry that waits must not come back over what is entered now.
    if (mapping.kind === 'packed') this.publish();
    const covered = mapping.kind === 'packed' ? whole : Math.min(whole, this.covered(at));
    if (covered === 0) return Math.min(whole, length);
    return Math.min(this.tables.enterZeros?.(at, covered) ?? 0, length);
  }

  /** Data first, then the entries that lead to it. */
  publish(): void {
    const { pending, health } = this;
    if (pending.count === 0) return;
    const runs = pending.runs();
    for (const storage of new Set(runs.map((run) => run.storage))) health.barrier(storage);
    this.tables.enter(runs);
    pending.clear();
  }

  flush(): void {
    this.publish();
    this.barrier();
  }

  reach(size: number): void {
    this.publish();
    this.tables.reach(size);
  }

  resize(size: number): void {
    this.tables.resize(size);
    this.barrier();
  }

  get empty(): LayerWriter['empty'] {
    const { tables } = this;
    if (tables.empty === undefined) return undefined;
    return () => {
      tables.empty?.(() => this.barrier());
      this.barrier();
    };
  }

  get changeBacking(): LayerWriter['changeBacking'] {
    const { tables } = this;
    if (tables.changeBacking === undefined) return undefined;
    return (backing) => {
      this.prepare();
      this.flush();
      tables.changeBacking?.(backing);
      this.barrier();
    };
  }

  finish(): void {
    if (!this.ready) return;
    this.flush();
    this.tables.settle();
    this.barrier();
  }

  private barrier(): void {
    for (const storage of this.tables.storages) this.health.barrier(storage);
  }

  /** Where the units end that begin with the one at `start` and have no place, looked for until `end`. */
  private absent(start: number, at: number, end: number): number {
    const { layer, tables } = this;
    let here = at;
    while (here < end) {
      const mapping = layer.map(here, end - here);
      if (mapping.kind === 'data' && mapping.ours === true) break;
      here += mapping.length;
    }
    if (here === at) throw new Error(`the unit at ${start} has its place`);
    const last = tables.unitAt(here - 1);
    return last.start + last.length;
  }

  private placement(start: number, space: Space): Placement {
    const { storage, offset, length, fresh } = space;
    const run = { start, length, storage, offset };
    return {
      ...run,
      storage: this.tables.content?.(run) ?? storage,
      fresh,
      commit: (barrier) => {
        if (barrier) this.pending.add(run);
        else this.enter(run);
      },
      abandon: () => this.tables.giveBack(space),
    };
  }

  /**
   * When it fails some entries may stand in the file already, so the space cannot be taken back: the run is entered
   * again with the next group.
   */
  private enter(run: UnitRun): void {
    try {
      this.tables.enter([run]);
    } catch (error) {
      this.pending.add(run);
      throw error;
    }
  }

  /** Bytes of the units that lie wholly in the range; one cut only by the end of the disk counts whole. */
  private wholeUnits(at: number, length: number): number {
    const end = at + length;
    const last = this.tables.unitAt(end - 1);
    const lastEnd = last.start + last.length;
    return (lastEnd === end || end === this.layer.size ? lastEnd : last.start) - at;
  }

  /** Whole units from `at` on that something lies below. */
  private covered(at: number): number {
    const end = this.backing?.size ?? 0;
    if (end <= at) return 0;
    const last = this.tables.unitAt(end - 1);
    return last.start + last.length - at;
  }
}
