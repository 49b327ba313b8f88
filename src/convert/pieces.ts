/** A disk cut into pieces that are copied in one way each. */
import type { Extent } from '../image/image.js';
import { roundDown, roundUp } from '../lib/bits.js';
import type { Storage } from '../storage/storage.js';
import type { ReadDisk } from './joined.js';
import { BLOCK } from './ring.js';

/** What the host is asked to copy at once. */
const HOST_BLOCK = 64 * 1024 * 1024;
/** Where packing or unpacking is most of the work: enough pieces for all threads, and none is waited for long. */
const PACKED_BLOCK = 512 * 1024;

/** `below`: not copied, the target shows it anyway. */
type Kind = 'data' | 'zero' | 'below';

/** Where bytes lie on the host as they are. */
export interface Place {
  readonly storage: Storage;
  readonly offset: number;
}

export interface Piece {
  readonly kind: Kind;
  readonly from: number;
  readonly to: number;
  /** It has to be unpacked, or to be packed. */
  readonly packed: boolean;
  /** Set for what the host shall copy. */
  readonly place: Place | undefined;
}

export interface PieceOptions {
  /** The target lies above what the source lies above: only what the source's own layer holds is copied. */
  readonly topLayer: boolean;
  /** 0 makes data of holes too. */
  readonly sparse: number;
  /** The host shall copy what lies there as it is. */
  readonly byHost: boolean;
  /** Data comes in whole units of this (but at the end of the disk), whatever else these hold: a power of two. */
  readonly unit: number;
  /** All that is copied will be packed. */
  readonly pack: boolean;
}

/**
 * Neighbouring extents of one kind, together; what the host shall copy where it lies in one piece. Data is cut at
 * multiples of what is copied at once.
 */
export function* pieces(source: ReadDisk, end: number, options: PieceOptions): Generator<Piece> {
  let pending: Piece | undefined;
  for (let at = 0; at < end; ) {
    const extent = source.extent(at, end - at);
    const reach = at + extent.length;
    // What is left of a unit that holds data is taken for data too.
    const kind = reach < roundUp(at + 1, options.unit) && reach < end ? 'data' : kindOf(extent, options);
    const packed = kind === 'data' && (extent.compressed || options.pack);
    const place = kind === 'data' && options.byHost ? placeOf(extent) : undefined;
    const step = place === undefined ? (packed ? Math.max(PACKED_BLOCK, options.unit) : BLOCK) : HOST_BLOCK;
    const start = at;
    const whole = kind === 'data' ? roundUp(reach, options.unit) : roundDown(reach, options.unit);
    for (const to = reach === end ? end : Math.min(end, whole); at < to; ) {
      const here = place && { ...place, offset: place.offset + at - start };
      const next: Piece = { kind, from: at, to, packed, place: here };
      if (pending !== undefined && !continues(pending, next)) {
        yield pending;
        pending = undefined;
      }
      const { from, place: first }: Pick<Piece, 'from' | 'place'> = pending ?? next;
      at = kind === 'data' ? Math.min(to, roundDown(from, step) + step) : to;
      pending = { kind, from, to: at, packed, place: first };
      if (kind === 'data' && at % step === 0) {
        yield pending;
        pending = undefined;
      }
    }
  }
  if (pending !== undefined) yield pending;
}

function kindOf(extent: Extent, { topLayer, sparse }: PieceOptions): Kind {
  if (topLayer && extent.depth > 0) return 'below';
  return extent.zero && sparse !== 0 ? 'zero' : 'data';
}

/** Where the bytes of an extent lie, if they do so as they are. */
export function placeOf({ data, compressed, storage, offset }: Extent): Place | undefined {
  return data && !compressed && storage !== undefined && offset !== undefined ? { storage, offset } : undefined;
}

function continues(before: Piece, next: Piece): boolean {
  if (before.kind !== next.kind || before.packed !== next.packed) return false;
  const { place } = before;
  if (place === undefined || next.place === undefined) return place === next.place;
  return place.storage === next.place.storage && place.offset + (before.to - before.from) === next.place.offset;
}
