/** Every range in which two disks differ, told from their extents first. */
import { roundDown, roundUp } from '../lib/bits.js';
import { BLOCK, type ComparedDisk, SECTOR, Side, samePlace } from './side.js';

/** What a disk has in a range: nothing but zeros, or something in each of its sectors. Past its end are zeros. */
export type Held = 'zero' | 'data';

/** A range in which each sector differs; neighbours hold something else. */
export interface ChangedRange {
  readonly start: number;
  readonly length: number;
  readonly first: Held;
  readonly second: Held;
}

/** Smaller than a block: where most of one is the same, few sectors are looked at. */
const CHUNK = 64 * 1024;

/**
 * Goes through two disks from the beginning to the end of the longer one, and tells `found` of every range in which
 * they differ, in order. Yields how many bytes it has gone through; whoever stops asking has stopped it. What both know
 * to be zeros, and what lies at one place of one file for both, is not read: two snapshots of an image, or two images
 * above one backing file, cost what they differ in. Throws what reading either of them throws.
 */
export function* diffDisks(
  first: ComparedDisk,
  second: ComparedDisk,
  found: (range: ChangedRange) => void,
): Generator<number> {
  const [one, other] = [new Side(first), new Side(second)];
  const end = Math.max(first.size, second.size);
  const joiner = new Joiner(found);
  // From `from` to `at` lies what has to be read.
  for (let from = 0, at = 0; at < end; ) {
    const [a, b] = [one.at(at), other.at(at)];
    const length = Math.min(a.length, b.length, end - at);
    const known = (a.zero && b.zero) || samePlace(a, b);
    if (!known) at = Math.min(at + length, roundDown(from, BLOCK) + BLOCK);
    const runEnds = known || at === end || at % BLOCK === 0;
    if (runEnds && at > from) for (const range of changedIn(one, other, from, at)) joiner.add(range);
    if (known) at += length;
    if (runEnds) from = at;
    yield at;
  }
  joiner.end();
}

/** The sectors that differ between `from` and `to`, which are at most a block apart. */
function* changedIn(one: Side, other: Side, from: number, to: number): Generator<ChangedRange> {
  const [a, b] = [one.read(from, to), other.read(from, to)];
  if (a.equals(b)) return;
  for (let chunk = from; chunk < to; ) {
    const chunkEnd = Math.min(to, roundUp(chunk + 1, CHUNK));
    const same = a.compare(b, chunk - from, chunkEnd - from, chunk - from, chunkEnd - from) === 0;
    for (let at = same ? chunkEnd : chunk; at < chunkEnd; ) {
      const next = Math.min(chunkEnd, roundUp(at + 1, SECTOR));
      const [mine, theirs] = [a.subarray(at - from, next - from), b.subarray(at - from, next - from)];
      if (!mine.equals(theirs)) yield { start: at, length: next - at, first: held(mine), second: held(theirs) };
      at = next;
    }
    chunk = chunkEnd;
  }
}

const ZEROS = Buffer.alloc(SECTOR);

function held(sector: Buffer): Held {
  return sector.compare(ZEROS, 0, sector.length) === 0 ? 'zero' : 'data';
}

/** Makes one range of neighbours of one kind. */
class Joiner {
  private pending: ChangedRange | undefined;

  constructor(private readonly found: (range: ChangedRange) => void) {}

  add(range: ChangedRange): void {
    const { pending } = this;
    const joins =
      pending !== undefined &&
      pending.start + pending.length === range.start &&
      pending.first === range.first &&
      pending.second === range.second;
    if (joins) this.pending = { ...pending, length: pending.length + range.length };
    else {
      this.end();
      this.pending = range;
    }
  }

  end(): void {
    if (this.pending !== undefined) this.found(this.pending);
    this.pending = undefined;
  }
}
