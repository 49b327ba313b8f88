/** Copying a disk with its internal snapshots: each state in turn, of which only what differs from the one before is written. */
import type { Extent, Image, Snapshot } from '../image/image.js';
import { largeBuffer } from '../lib/aligned.js';
import { roundDown } from '../lib/bits.js';
import { ImgfsError } from '../lib/errors.js';
import { zeroRuns } from './zeros.js';

/** What is read and written at once. */
const BLOCK = 2 * 1024 * 1024;

/** Throws `unsupported` where a snapshot holds what cannot be carried over. */
export function assertCopyable(source: Pick<Image, 'snapshots'>, name: string): void {
  const running = source.snapshots().find(({ vmStateSize }) => vmStateSize > 0);
  if (running === undefined) return;
  throw new ImgfsError(
    'unsupported',
    `${name}: snapshot "${running.name}" holds the state of a running machine, which is not copied`,
    { hint: 'copy the disk without --with-snapshots, or delete that snapshot in a copy' },
  );
}

/** The size the target begins with: that of the oldest state. */
export function firstSize(source: Pick<Image, 'size' | 'snapshots'>): number {
  return source.snapshots()[0]?.diskSize ?? source.size;
}

/**
 * Makes `target`, a new image of `firstSize` that reads as zeros, what the source is: its snapshots, in their order, with
 * their names, ids, dates and sizes, and then the disk as it is now. Yields how many bytes of all states are done.
 * Throws what reading and writing throw.
 */
export function* copyStates(source: Image, target: Image, sparse: number): Generator<number> {
  let before: Image | undefined;
  let done = 0;
  try {
    for (const snapshot of source.snapshots()) {
      const state = source.openSnapshot(snapshot.id);
      try {
        yield* differences(before, state, target, { done, sparse });
      } catch (error) {
        state.close();
        throw error;
      }
      before?.close();
      before = state;
      done += state.size;
      target.createSnapshot(snapshot.nameBytes, snapshot);
    }
    yield* differences(before, source, target, { done, sparse });
  } finally {
    before?.close();
  }
}

/** The bytes of all states together. */
export function totalOf(source: Pick<Image, 'size' | 'snapshots'>): number {
  return source.snapshots().reduce((sum: number, { diskSize }: Snapshot) => sum + diskSize, source.size);
}

/** Turns the target, which is what `before` is, into what `now` is. */
function* differences(
  before: Image | undefined,
  now: Image,
  target: Image,
  { done, sparse }: { readonly done: number; readonly sparse: number },
): Generator<number> {
  if (target.size !== now.size) target.resize(now.size);
  const buffer = largeBuffer(BLOCK);
  for (let at = 0; at < now.size; ) {
    const extent = now.extent(at, now.size - at);
    const old = at < (before?.size ?? 0) ? before?.extent(at, Math.min(extent.length, before.size - at)) : undefined;
    const wholly = Math.min(extent.length, old?.length ?? extent.length);
    const same = isSame(old, extent);
    const length = same || extent.zero ? wholly : Math.min(wholly, roundDown(at, BLOCK) + BLOCK - at);
    if (!same) {
      if (extent.zero) target.zero(at, length, { unmap: true });
      else if (old === undefined || old.zero) fill(now, target, buffer.subarray(0, length), { at, sparse });
      else change(now, target, buffer.subarray(0, length), { at, sparse });
    }
    at += length;
    yield done + at;
  }
}

/** Whether both are zeros, or the very same bytes of the same file: a snapshot's are never overwritten. */
function isSame(old: Extent | undefined, now: Extent): boolean {
  if (old === undefined || old.zero) return now.zero;
  return !now.zero && now.storage !== undefined && old.storage === now.storage && old.offset === now.offset;
}

interface Part {
  readonly at: number;
  readonly sparse: number;
}

/** Where the target reads as zeros. */
function fill(now: Image, target: Image, bytes: Buffer, { at, sparse }: Part): void {
  now.read(bytes, at);
  if (sparse === 0) target.write(bytes, at);
  else
    for (const run of zeroRuns(bytes, at, sparse))
      if (!run.zero) target.write(bytes.subarray(run.from, run.to), at + run.from);
}

/** Where it holds something: in whole units of it, those that changed. */
function change(now: Image, target: Image, bytes: Buffer, { at, sparse }: Part): void {
  const held = Buffer.allocUnsafeSlow(bytes.length);
  now.read(bytes, at);
  target.read(held, at);
  const unit = target.blockSize;
  for (let from = 0; from < bytes.length; ) {
    const to = Math.min(bytes.length, from + unit - ((at + from) % unit));
    const part = bytes.subarray(from, to);
    if (!part.equals(held.subarray(from, to))) {
      const [run] = zeroRuns(part, at + from, unit);
      if (run?.zero === true && sparse !== 0) target.zero(at + from, to - from, { unmap: true });
      else target.write(part, at + from);
    }
    from = to;
  }
}
