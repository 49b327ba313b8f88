import type { Extent } from '../image/image.js';
import type { ReadDisk } from './joined.js';

/** A part of a disk, as a disk. */
export class PartOfDisk implements ReadDisk {
  constructor(
    private readonly disk: ReadDisk,
    private readonly from: number,
    readonly size: number,
  ) {}

  extent(at: number, length: number): Extent {
    return { ...this.disk.extent(this.from + at, Math.min(length, this.size - at)), start: at };
  }

  read(into: Uint8Array, at: number): void {
    this.disk.read(into, this.from + at);
  }
}
