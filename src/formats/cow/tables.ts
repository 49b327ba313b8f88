import { driverCells, type Space, type UnitRun, type UnitTables } from '../../image/units.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import type { Bitmap } from './bitmap.js';
import type { Header } from './header.js';

/** From here on nothing was ever written, as long as the image was open. */
const FRESH_FROM = 0;

/** Every sector has its place from the beginning; what is written is whether it counts. */
export class CowTables implements UnitTables {
  readonly unit: number;
  readonly storages: readonly Storage[];
  private readonly cells: Float64Array;

  constructor(
    private readonly storage: Storage,
    private readonly header: Header,
    private readonly bitmap: Bitmap,
    /** Shared by all threads. */
    cells: Float64Array,
  ) {
    this.unit = header.sectorSize;
    this.storages = [storage];
    this.cells = driverCells(cells);
  }

  unitAt(at: number): { readonly start: number; readonly length: number } {
    return { start: at - (at % this.unit), length: this.unit };
  }

  holdsTable(_storage: Storage, offset: number): boolean {
    return offset < this.header.dataAt;
  }

  prepare(): void {
    this.cells[FRESH_FROM] = this.storage.size();
  }

  take(start: number, length: number): Space {
    const offset = this.header.dataAt + start;
    return { storage: this.storage, offset, length, fresh: offset >= this.cells[FRESH_FROM]! };
  }

  giveBack({ offset, length }: Space): void {
    this.cells[FRESH_FROM] = Math.max(this.cells[FRESH_FROM]!, offset + length);
  }

  enter(runs: readonly UnitRun[]): void {
    for (const { start, length } of runs) this.bitmap.set(start / this.unit, length / this.unit);
  }

  reach(size: number): void {
    if (size !== this.header.size) throw this.fixed();
  }

  resize(size: number): void {
    if (size !== this.header.size) throw this.fixed();
  }

  /** Any sector may be given up without the others. */
  empty(barrier: () => void): void {
    const { storage, header, bitmap } = this;
    bitmap.reset();
    barrier();
    storage.discard(header.dataAt, Math.max(0, storage.size() - header.dataAt));
  }

  settle(): void {}

  /** The sectors begin where the bitmap ends, and that is as long as the disk is large. */
  private fixed(): ImgfsError {
    return new ImgfsError('unsupported', `${this.storage.name}: a COW image keeps its size`, {
      hint: 'copy the disk to a new image',
    });
  }
}
