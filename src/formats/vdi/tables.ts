import type { Sharing } from '../../image/sharing.js';
import { driverCells, type Space, type UnitRun, type UnitTables, unitCells } from '../../image/units.js';
import { roundUp } from '../../lib/bits.js';
import type { Storage } from '../../storage/storage.js';
import { hostOf, indexAt } from './block-map.js';
import { FreeBlocks } from './free-blocks.js';
import { blockStride, SECTOR } from './header.js';
import { ENTRY } from './layout.js';
import { grow, shrink } from './resize.js';
import type { Volume } from './volume.js';

/** What the writer of units needs of a VDI: the order of its own writes is in `free-blocks.ts` and `resize.ts`. */
export class VdiTables implements UnitTables {
  readonly unit: number;
  readonly storages: readonly Storage[];
  private readonly free: FreeBlocks;

  constructor(
    private readonly volume: Volume,
    sharing: Sharing | undefined,
  ) {
    this.unit = volume.header.blockSize;
    this.storages = [volume.storage];
    this.free = new FreeBlocks(volume, driverCells(unitCells(sharing)));
  }

  unitAt(at: number): { readonly start: number; readonly length: number } {
    return { start: at - (at % this.unit), length: this.unit };
  }

  /** Header and map lie before the blocks. */
  holdsTable(_storage: Storage, offset: number): boolean {
    return offset < this.volume.header.dataAt;
  }

  prepare(): void {
    this.volume.change({ allocated: this.free.learn(), modified: true });
    this.volume.barrier();
  }

  take(_start: number, length: number): Space {
    const { storage, header } = this.volume;
    const { blockExtra } = header;
    const { first, count } = this.free.take(blockExtra > 0 ? 1 : length / this.unit);
    const offset = hostOf(this.volume.header, first);
    // The counter says that these blocks are taken. Past the end of the file nothing was ever written.
    return { storage, offset, length: count * this.unit, fresh: offset >= storage.size() };
  }

  giveBack({ offset, length }: Space): void {
    this.free.giveBack({ first: indexAt(this.volume.header, offset), count: length / this.unit });
  }

  enter(runs: readonly UnitRun[]): void {
    const { map, header } = this.volume;
    for (const { start, length, offset } of runs) {
      map.set(start / this.unit, length / this.unit, indexAt(header, offset));
    }
  }

  enterZeros(start: number, length: number): number {
    this.volume.map.set(start / this.unit, length / this.unit, ENTRY.zero);
    return length;
  }

  reach(size: number): void {
    grow(this.volume, this.free, size);
  }

  resize(size: number): void {
    if (size < this.volume.header.size) shrink(this.volume, this.free, size);
    else this.volume.change({ size: roundUp(size, SECTOR) });
  }

  /** The file gets its whole last block: VirtualBox does not read past the end of a file. */
  settle(): void {
    const { volume, free } = this;
    const { storage } = volume;
    const allocated = free.settled();
    if (allocated !== volume.header.allocated) volume.change({ allocated });
    free.forget();
    const end = volume.header.dataAt + allocated * blockStride(volume.header);
    if (storage.size() < end) storage.resize(end);
  }
}
