/** Copying a disk into another: what is known to be zeros is not read, and need not be written. */
import type { Extent, Image } from '../image/image.js';
import { roundDown } from '../lib/bits.js';
import type { ReadDisk } from './joined.js';
import { zeroRuns } from './zeros.js';

export type WrittenDisk = Pick<Image, 'size' | 'blockSize' | 'write' | 'zero'>;

export interface CopyOptions {
  /** The target reads as zeros everywhere: nothing has to be done for zeros. */
  readonly targetIsZero: boolean;
  /** The target lies above what the source lies above: only what the source's own layer holds is copied. */
  readonly topLayer: boolean;
  /** Bytes, a multiple of 512: so many zeros at once become a hole. 0 writes everything, holes too, as bytes. */
  readonly sparse: number;
}

/** What is read and written at once; reads begin at multiples of it where what is read is longer. */
const BLOCK = 2 * 1024 * 1024;

/**
 * Copies a disk, from its beginning to its end, to a target that is at least as large (what the source has beyond the
 * target's end are zeros). A step at a time: yields the guest bytes that are done, often; whoever stops asking stops
 * the copying. In the target every range is written or made zeros at most once, in ascending order. Throws what
 * reading and writing throw.
 */
export function* copyDisk(source: ReadDisk, target: WrittenDisk, options: CopyOptions): Generator<number> {
  const buffer = Buffer.allocUnsafeSlow(BLOCK);
  const unit = options.targetIsZero ? options.sparse : Math.max(options.sparse, target.blockSize);
  for (const { kind, from, to } of pieces(source, Math.min(source.size, target.size), options)) {
    if (kind === 'zero') clear(target, from, to, options);
    if (kind === 'data') {
      const bytes = buffer.subarray(0, to - from);
      source.read(bytes, from);
      if (options.sparse === 0) target.write(bytes, from);
      else {
        for (const run of zeroRuns(bytes, from, unit)) {
          if (run.zero) clear(target, from + run.from, from + run.to, options);
          else target.write(bytes.subarray(run.from, run.to), from + run.from);
        }
      }
    }
    yield to;
  }
}

function clear(target: WrittenDisk, from: number, to: number, { targetIsZero }: CopyOptions): void {
  if (!targetIsZero) target.zero(from, to - from, { unmap: true });
}

/** `below`: not copied, the target shows it anyway. */
type Kind = 'data' | 'zero' | 'below';

interface Piece {
  readonly kind: Kind;
  readonly from: number;
  readonly to: number;
}

/** The disk as neighbouring extents of one kind; data in pieces of a block at most, cut at whole blocks. */
function* pieces(source: ReadDisk, end: number, options: CopyOptions): Generator<Piece> {
  let pending: Piece | undefined;
  for (let at = 0; at < end; ) {
    const extent = source.extent(at, end - at);
    const kind = kindOf(extent, options);
    const to = at + extent.length;
    while (at < to) {
      if (pending !== undefined && pending.kind !== kind) {
        yield pending;
        pending = undefined;
      }
      const from: number = pending?.from ?? at;
      at = kind === 'data' ? Math.min(to, roundDown(from, BLOCK) + BLOCK) : to;
      pending = { kind, from, to: at };
      if (kind === 'data' && at % BLOCK === 0) {
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
