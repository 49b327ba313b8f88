/** Whether two disks hold the same bytes, told from their extents first: what both know to be zeros is not read. */

import type { Extent, Image } from '../image/image.js';
import { roundDown, roundUp } from '../lib/bits.js';

/** The parts of an image that comparing needs. */
export type ComparedDisk = Pick<Image, 'size' | 'extent' | 'read'>;

/**
 * The first thing found that is not the same. `size` and `status` are only looked for in strict comparisons; the
 * offset of `content` is that of the sector in which the disks differ, as qemu-img tells it.
 */
export type Difference =
  | { readonly kind: 'size' }
  | { readonly kind: 'status'; readonly offset: number }
  | { readonly kind: 'content'; readonly offset: number };

export interface CompareOptions {
  /** Sizes must be equal, and what is known of each range: whether it is there, stored, compressed, known to be zeros. */
  readonly strict: boolean;
}

/** The unit in which differences are told. */
export const SECTOR = 512;

/** What is read of each disk at once; reads begin at multiples of it where what is read is longer. */
const BLOCK = 2 * 1024 * 1024;

/**
 * Compares two disks from the beginning to the first difference; undefined where there is none. Yields how many bytes
 * it has compared. The longer disk must read as zeros where the other has ended, unless the comparison is strict.
 * Throws what reading either of them throws.
 */
export function* compareDisks(
  first: ComparedDisk,
  second: ComparedDisk,
  { strict }: CompareOptions,
): Generator<number, Difference | undefined> {
  if (strict && first.size !== second.size) return { kind: 'size' };
  const [one, other] = [new Side(first), new Side(second)];
  const end = Math.max(first.size, second.size);
  // From `from` to `at` lies what has to be read.
  for (let from = 0, at = 0; at < end; ) {
    const [a, b] = [one.at(at), other.at(at)];
    const length = Math.min(a.length, b.length, end - at);
    const statusDiffers = strict && !sameStatus(a, b);
    const known = a.zero && b.zero;
    if (!known && !statusDiffers) at = Math.min(at + length, roundDown(from, BLOCK) + BLOCK);
    const runEnds = known || statusDiffers || at === end || at % BLOCK === 0;
    if (runEnds && at > from) {
      const offset = differenceIn(one, other, from, at);
      if (offset !== undefined) return { kind: 'content', offset };
    }
    if (statusDiffers) return { kind: 'status', offset: at };
    if (known) at += length;
    if (runEnds) from = at;
    yield at;
  }
  return undefined;
}

/** What a comparison knows of a range of a disk: its extent, or that the disk has ended. */
type Known = Pick<Extent, 'length' | 'present' | 'zero' | 'data' | 'compressed' | 'offset'>;

const PAST_THE_END: Known = { length: Infinity, present: false, zero: true, data: false, compressed: false };

function sameStatus(a: Known, b: Known): boolean {
  return (
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.compressed === b.compressed &&
    (a.offset === undefined) === (b.offset === undefined)
  );
}

/** One of the two disks: its present extent, and a buffer for what is read of it. Past its end it reads as zeros. */
class Side {
  private readonly buffer = Buffer.allocUnsafeSlow(BLOCK);
  private extent: Extent | undefined;

  constructor(private readonly disk: ComparedDisk) {}

  /** What is known from `at` on: never before a place asked for earlier. */
  at(at: number): Known {
    const { size } = this.disk;
    if (at >= size) return PAST_THE_END;
    let { extent } = this;
    if (extent === undefined || at >= extent.start + extent.length) extent = this.disk.extent(at, size - at);
    this.extent = extent;
    return { ...extent, length: extent.start + extent.length - at };
  }

  read(from: number, to: number): Buffer {
    const bytes = this.buffer.subarray(0, to - from);
    const there = Math.max(0, Math.min(to, this.disk.size) - from);
    if (there > 0) this.disk.read(bytes.subarray(0, there), from);
    bytes.fill(0, there);
    return bytes;
  }
}

/** Where the sector begins in which they first differ between `from` and `to`, which are at most a block apart. */
function differenceIn(one: Side, other: Side, from: number, to: number): number | undefined {
  const [a, b] = [one.read(from, to), other.read(from, to)];
  if (a.equals(b)) return undefined;
  for (let at = from; ; ) {
    const next = Math.min(to, roundUp(at + 1, SECTOR));
    if (a.compare(b, at - from, next - from, at - from, next - from) !== 0) return roundDown(at, SECTOR);
    at = next;
  }
}
