/** The disk: its extents side by side. */
import type { ImageInfo } from '../../image/image.js';
import type { Layer, Mapping } from '../../image/mapping.js';
import type { Storage } from '../../storage/storage.js';
import { CELL } from './cells.js';
import type { Extent } from './extents.js';

/** What a disk of flat extents reports as its unit. */
const FLAT_BLOCK = 4096;

/** An extent and where it begins on the disk. */
export interface Placed {
  readonly start: number;
  readonly extent: Extent;
}

export class VmdkLayer implements Layer {
  readonly blockSize: number;
  readonly placed: readonly Placed[];
  private readonly opened: number;

  /** Owns the storages: they are closed with it, in this order. */
  constructor(
    extents: readonly Extent[],
    readonly info: ImageInfo,
    private readonly storages: readonly Storage[],
    private readonly cells: Float64Array | undefined,
  ) {
    let start = 0;
    this.placed = extents.map((extent) => {
      const placed = { start, extent };
      start += extent.size;
      return placed;
    });
    this.opened = start;
    const grains = extents.flatMap(({ grainSize }) => grainSize ?? []);
    this.blockSize = grains.length === 0 ? FLAT_BLOCK : Math.max(...grains);
  }

  /** Another thread may have changed it. */
  get size(): number {
    return this.cells?.[CELL.size] || this.opened;
  }

  map(at: number, length: number): Mapping {
    const { start, extent } = this.at(at);
    return extent.map(at - start, this.within(extent, at - start, length));
  }

  mapInDetail(at: number, length: number): Mapping {
    const { start, extent } = this.at(at);
    const most = this.within(extent, at - start, length);
    return extent.mapInDetail?.(at - start, most) ?? extent.map(at - start, most);
  }

  /** The extent that holds `at`; the last one also for what lies behind the end of the disk. */
  at(at: number): Placed {
    const { placed } = this;
    let low = 0;
    for (let high = placed.length; high - low > 1; ) {
      const middle = Math.floor((low + high) / 2);
      if (placed[middle]!.start <= at) low = middle;
      else high = middle;
    }
    return placed[low]!;
  }

  /** How much of a range that begins in the extent lies in it. */
  within(extent: Extent, at: number, length: number): number {
    const last = this.placed[this.placed.length - 1];
    return extent === last?.extent ? length : Math.min(length, extent.size - at);
  }

  hostBytes(): number {
    return this.storages.reduce((sum, storage) => sum + storage.allocated(), 0);
  }

  close(): void {
    for (const storage of this.storages) storage.close();
  }
}
