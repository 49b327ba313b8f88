/** The write side of a disk, as the common writer of formats cut in units uses it. The order of writes is in the README. */
import type { OpenContext } from '../../image/format.js';
import type { Health } from '../../image/health.js';
import type { Space, UnitRun, UnitTables } from '../../image/units.js';
import { roundDown, roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { extentCells, type Live, MAX_WRITTEN_EXTENTS } from './cells.js';
import { changeCid } from './cid.js';
import type { Disk } from './disk.js';
import type { Extent } from './extents.js';
import { GrainWriter } from './grain-writer.js';
import type { Placed, VmdkLayer } from './layer.js';
import { ENTRY_BYTES, SECTOR } from './layout.js';
import { Resizer } from './resize.js';
import { SparseExtent } from './sparse.js';

/** What zeroing a flat extent works in. */
const FLAT_UNIT = 4096;
/** Larger grains would be copied through memory as a whole. */
const MAX_WRITTEN_GRAIN = 4 * 1024 * 1024;

/**
 * Throws where a disk can be read and not written: `unsupported`, `limit`, and `corrupt` where it must be repaired
 * before.
 */
export function assertWritable(name: string, { descriptor }: Disk, extents: readonly Extent[]): void {
  if (descriptor.tracked) {
    throw new ImgfsError('unsupported', `${name}: VMware keeps track of its changes, which imgfs cannot do`);
  }
  const sparse = extents.filter((extent) => extent instanceof SparseExtent);
  if (extents.length > MAX_WRITTEN_EXTENTS) {
    throw new ImgfsError('limit', `${name}: ${extents.length} extents, at most ${MAX_WRITTEN_EXTENTS} can be written`);
  }
  for (const { storage, shape } of sparse) {
    const refuse = (what: string): never => {
      throw new ImgfsError('unsupported', `${storage.name}: ${what} can only be read`);
    };
    if (shape.kind === 'sesparse') refuse('seSparse extents');
    if (shape.compressed) refuse('compressed (stream optimized) extents');
    if (shape.kind === 'hosted' && shape.version > 2) refuse(`extents of version ${shape.version}`);
    if ((shape.entriesPerTable * ENTRY_BYTES) % SECTOR !== 0) refuse('grain tables that are no whole sectors');
    if (shape.grainSize > MAX_WRITTEN_GRAIN) {
      throw new ImgfsError('limit', `${storage.name}: grains of ${shape.grainSize} bytes can only be read`);
    }
    if (shape.damaged || shape.unclean) {
      const why = shape.damaged ? 'one of its two grain directories is lost' : 'its last writer did not finish';
      throw new ImgfsError('corrupt', `${storage.name}: ${why}`, { hint: 'run imgfs check -r all on it' });
    }
  }
}

export interface VmdkTablesParts {
  readonly disk: Disk;
  /** The image's own file. */
  readonly storage: Storage;
  readonly layer: VmdkLayer;
  readonly live: Live;
  readonly health: Health;
  readonly context: OpenContext;
}

export class VmdkTables implements UnitTables {
  readonly unit: number;
  readonly storages: readonly Storage[];
  private readonly parts: VmdkTablesParts;
  private readonly writers: ReadonlyMap<Extent, GrainWriter>;
  private readonly guards: ReadonlyMap<Storage, GrainWriter>;
  private readonly resizer: Resizer;

  constructor(parts: VmdkTablesParts) {
    this.parts = parts;
    const { layer, live, health, context } = parts;
    this.unit = layer.blockSize;
    const writers = layer.placed.flatMap(({ extent }, n): [Extent, GrainWriter][] => {
      if (!(extent instanceof SparseExtent)) return [];
      const cells = extentCells(live.cells, n);
      return [[extent, new GrainWriter({ extent, health, sharing: context.sharing, cells })]];
    });
    this.writers = new Map(writers);
    this.guards = new Map(writers.map(([, writer]) => [writer.storage, writer]));
    this.storages = [...new Set(layer.placed.flatMap(({ extent }) => extent.storage ?? []))];
    this.resizer = new Resizer(parts, this.writers);
  }

  unitAt(at: number): { readonly start: number; readonly length: number } {
    const { layer } = this.parts;
    const { start, extent } = layer.at(at);
    const unit = extent.grainSize ?? FLAT_UNIT;
    const from = roundDown(at - start, unit);
    return { start: start + from, length: layer.within(extent, from, unit) };
  }

  holdsTable(storage: Storage, offset: number, length: number): boolean {
    return this.guards.get(storage)?.holdsTable(offset, length) ?? false;
  }

  prepare(): void {
    changeCid(this.parts);
  }

  take(start: number, length: number): Space {
    const { placed, writer, at } = this.find(start);
    return writer.take(at, this.parts.layer.within(placed.extent, at, length));
  }

  giveBack(space: Space): void {
    this.guards.get(space.storage)?.giveBack(space);
  }

  /** A run of adjacent units may go on in another table, never in another extent: that lies in another file. */
  enter(runs: readonly UnitRun[]): void {
    for (const { start, length, offset } of runs) {
      const { writer, at } = this.find(start);
      writer.enter(at, length, offset);
    }
  }

  enterZeros(start: number, length: number): number {
    const { placed, writer, at } = this.find(start);
    const { extent } = placed;
    if (!(extent instanceof SparseExtent) || !extent.shape.zeroGrains) return 0;
    const within = this.parts.layer.within(extent, at, length);
    const most = Math.min(within, roundUp(at + 1, extent.span) - at);
    writer.enterZeros(at, most);
    return most;
  }

  reach(size: number): void {
    this.resizer.reach(size);
  }

  resize(size: number): void {
    this.resizer.resize(size);
  }

  settle(): void {
    for (const writer of this.writers.values()) writer.settle();
  }

  private find(at: number): { readonly placed: Placed; readonly writer: GrainWriter; readonly at: number } {
    const placed = this.parts.layer.at(at);
    const writer = this.writers.get(placed.extent);
    if (writer !== undefined) return { placed, writer, at: at - placed.start };
    throw new ImgfsError('unsupported', `${this.parts.storage.name}: an extent without a file cannot be written`);
  }
}
