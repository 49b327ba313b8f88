/** One of two disks that are gone through side by side. */
import type { Extent, Image } from '../image/image.js';
import { largeBuffer } from '../lib/aligned.js';

/** The parts of an image that comparing needs. */
export type ComparedDisk = Pick<Image, 'size' | 'extent' | 'read'>;

/** The unit in which differences are told. */
export const SECTOR = 512;

/** What is read of each disk at once; reads begin at multiples of it where what is read is longer. */
export const BLOCK = 2 * 1024 * 1024;

/** What a comparison knows of a range of a disk: its extent, or that the disk has ended. */
export type Known = Pick<Extent, 'length' | 'present' | 'zero' | 'data' | 'compressed' | 'storage' | 'offset'>;

const PAST_THE_END: Known = { length: Infinity, present: false, zero: true, data: false, compressed: false };

/** One of the two disks: its present extent, and a buffer for what is read of it. Past its end it reads as zeros. */
export class Side {
  private readonly buffer = largeBuffer(BLOCK);
  private extent: Extent | undefined;

  constructor(private readonly disk: ComparedDisk) {}

  /** What is known from `at` on: never before a place asked for earlier. */
  at(at: number): Known {
    const { size } = this.disk;
    if (at >= size) return PAST_THE_END;
    let { extent } = this;
    if (extent === undefined || at >= extent.start + extent.length) extent = this.disk.extent(at, size - at);
    this.extent = extent;
    const place = extent.offset === undefined ? {} : { offset: extent.offset + at - extent.start };
    return { ...extent, ...place, length: extent.start + extent.length - at };
  }

  read(from: number, to: number): Buffer {
    const bytes = this.buffer.subarray(0, to - from);
    const there = Math.max(0, Math.min(to, this.disk.size) - from);
    if (there > 0) this.disk.read(bytes.subarray(0, there), from);
    bytes.fill(0, there);
    return bytes;
  }
}

/** Whether both are stored as they are at one place of one file: they need not be read to be known as equal. */
export function samePlace(a: Known, b: Known): boolean {
  const stored = a.data && b.data && !a.compressed && !b.compressed;
  if (!stored || a.offset === undefined || a.offset !== b.offset) return false;
  if (a.storage === undefined || b.storage === undefined) return false;
  return a.storage === b.storage || a.storage.sameAs?.(b.storage) === true;
}
