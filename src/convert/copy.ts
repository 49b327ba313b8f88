/** Copying a disk into another: what is known to be zeros is not read, and need not be written. */
import type { Extent, Image } from '../image/image.js';
import { roundDown } from '../lib/bits.js';
import type { Storage } from '../storage/storage.js';
import type { ReadDisk } from './joined.js';
import { zeroRuns } from './zeros.js';

export type WrittenDisk = Pick<Image, 'size' | 'blockSize' | 'write' | 'zero' | 'copyIn'>;

export interface CopyOptions {
  /** The target reads as zeros everywhere: nothing has to be done for zeros. */
  readonly targetIsZero: boolean;
  /** The target lies above what the source lies above: only what the source's own layer holds is copied. */
  readonly topLayer: boolean;
  /** Bytes, a multiple of 512: so many zeros at once become a hole. 0 writes everything, holes too, as bytes. */
  readonly sparse: number;
  /** The host copies what lies in files as it is, unseen: zeros that are stored there stay stored. */
  readonly byHost: boolean;
}

/** What is read and written at once; reads begin at multiples of it where what is read is longer. */
const BLOCK = 2 * 1024 * 1024;
/** What the host is asked to copy at once. */
const HOST_BLOCK = 64 * 1024 * 1024;

/**
 * Copies a disk, from its beginning to its end, to a target that is at least as large (what the source has beyond the
 * target's end are zeros). A step at a time: yields the guest bytes that are done, often; whoever stops asking stops
 * the copying. In the target every range is written or made zeros at most once, in ascending order, but for what the
 * host failed to copy. Throws what reading and writing throw.
 */
export function* copyDisk(source: ReadDisk, target: WrittenDisk, options: CopyOptions): Generator<number> {
  const reader = new Reader(source, target, options);
  for (const { kind, from, to, place } of pieces(source, Math.min(source.size, target.size), options)) {
    if (kind === 'zero') reader.clear(from, to);
    if (kind === 'data') {
      const done = place === undefined ? from : copiedByHost(target, place, from, to);
      for (let at = done; at < to; at = nextBlock(at, to)) reader.copy(at, nextBlock(at, to));
    }
    yield to;
  }
}

function nextBlock(at: number, end: number): number {
  return Math.min(end, roundDown(at, BLOCK) + BLOCK);
}

/** Returns how far it came. */
function copiedByHost(target: WrittenDisk, { storage, offset }: Place, from: number, to: number): number {
  for (let at = from; ; ) {
    const done = at < to ? target.copyIn(storage, offset + at - from, at, to - at) : 0;
    if (done === 0) return at;
    at += done;
  }
}

/** Copies what has to be looked at. */
class Reader {
  private readonly buffer = Buffer.allocUnsafeSlow(BLOCK);
  private readonly unit: number;

  constructor(
    private readonly source: ReadDisk,
    private readonly target: WrittenDisk,
    private readonly options: CopyOptions,
  ) {
    this.unit = options.targetIsZero ? options.sparse : Math.max(options.sparse, target.blockSize);
  }

  /** At most a block. */
  copy(from: number, to: number): void {
    const bytes = this.buffer.subarray(0, to - from);
    this.source.read(bytes, from);
    if (this.options.sparse === 0) {
      this.target.write(bytes, from);
      return;
    }
    for (const run of zeroRuns(bytes, from, this.unit)) {
      if (run.zero) this.clear(from + run.from, from + run.to);
      else this.target.write(bytes.subarray(run.from, run.to), from + run.from);
    }
  }

  clear(from: number, to: number): void {
    if (!this.options.targetIsZero) this.target.zero(from, to - from, { unmap: true });
  }
}

/** `below`: not copied, the target shows it anyway. */
type Kind = 'data' | 'zero' | 'below';

/** Where bytes lie on the host as they are. */
interface Place {
  readonly storage: Storage;
  readonly offset: number;
}

interface Piece {
  readonly kind: Kind;
  readonly from: number;
  readonly to: number;
  /** Set for what the host shall copy. */
  readonly place: Place | undefined;
}

/**
 * The disk as neighbouring extents of one kind; what the host shall copy where it lies in one piece. Data is cut at
 * multiples of what is copied at once.
 */
function* pieces(source: ReadDisk, end: number, options: CopyOptions): Generator<Piece> {
  let pending: Piece | undefined;
  for (let at = 0; at < end; ) {
    const extent = source.extent(at, end - at);
    const kind = kindOf(extent, options);
    const place = kind === 'data' && options.byHost ? placeOf(extent) : undefined;
    const step = place === undefined ? BLOCK : HOST_BLOCK;
    const start = at;
    for (const to = at + extent.length; at < to; ) {
      const here = place && { ...place, offset: place.offset + at - start };
      if (pending !== undefined && !continues(pending, kind, here)) {
        yield pending;
        pending = undefined;
      }
      const { from, place: first }: Pick<Piece, 'from' | 'place'> = pending ?? { from: at, place: here };
      at = kind === 'data' ? Math.min(to, roundDown(from, step) + step) : to;
      pending = { kind, from, to: at, place: first };
      if (kind === 'data' && at % step === 0) {
        yield pending;
        pending = undefined;
      }
    }
  }
  if (pending !== undefined) yield pending;
}

function kindOf(extent: Extent, { topLayer, sparse }: CopyOptions): Kind {
  if (topLayer && extent.depth > 0) return 'below';
  return extent.zero && sparse !== 0 ? 'zero' : 'data';
}

function placeOf({ data, compressed, storage, offset }: Extent): Place | undefined {
  return data && !compressed && storage !== undefined && offset !== undefined ? { storage, offset } : undefined;
}

function continues({ kind: before, from, to, place: first }: Piece, kind: Kind, place: Place | undefined): boolean {
  if (before !== kind) return false;
  if (first === undefined || place === undefined) return first === place;
  return first.storage === place.storage && first.offset + (to - from) === place.offset;
}
