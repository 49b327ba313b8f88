/** Whether two disks hold the same bytes, told from their extents first: what both know to be zeros is not read. */

import { roundDown, roundUp } from '../lib/bits.js';
import { BLOCK, type ComparedDisk, type Known, SECTOR, Side } from './side.js';

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

function sameStatus(a: Known, b: Known): boolean {
  return (
    a.present === b.present &&
    a.zero === b.zero &&
    a.data === b.data &&
    a.compressed === b.compressed &&
    (a.offset === undefined) === (b.offset === undefined)
  );
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
