/** Copying a disk into another: what is known to be zeros is not read, and need not be written. */
import type { Extent, Image } from '../image/image.js';
import { roundDown } from '../lib/bits.js';
import type { Storage } from '../storage/storage.js';
import { type BlockWork, prepareBlock } from './block.js';
import type { Crew } from './crew.js';
import type { ReadDisk } from './joined.js';
import { type Piece, type PieceOptions, pieces, placeOf } from './pieces.js';
import { BLOCK, Ring, Slot } from './ring.js';
import { type Lost, SalvagedDisk } from './salvage.js';

export type WrittenDisk = Pick<Image, 'size' | 'blockSize' | 'write' | 'zero' | 'copyIn' | 'packing' | 'writePacked'>;

export interface CopyOptions extends Omit<PieceOptions, 'unit'> {
  /** The target reads as zeros everywhere: nothing has to be done for zeros. */
  readonly targetIsZero: boolean;
  /** Bytes, a multiple of 512: so many zeros at once become a hole. 0 writes everything, holes too, as bytes. */
  readonly sparse: number;
  /** Blocks are written as they become ready, not in the order of the disk. */
  readonly outOfOrder: boolean;
  /** Told of what could not be read and became zeros; without it that ends the copying. */
  readonly lost?: ((lost: Lost) => void) | undefined;
  /** Both lie where files can share blocks: what was looked at need not be written. */
  readonly share?: boolean;
  /** Bytes a second that are written at most. */
  readonly rate?: number | undefined;
}

/** How blocks are prepared for a target. */
export function blockWork(
  target: Pick<WrittenDisk, 'size' | 'blockSize' | 'packing'>,
  options: CopyOptions,
): BlockWork {
  const { sparse, targetIsZero, pack } = options;
  const packing = pack ? target.packing : undefined;
  const least = packing?.unit ?? (targetIsZero ? 0 : target.blockSize);
  return {
    unit: sparse === 0 ? 0 : Math.max(sparse, least),
    packing,
    end: target.size,
    salvage: options.lost !== undefined,
  };
}

/**
 * Copies a disk, from its beginning to its end, to a target that is at least as large (what the source has beyond the
 * target's end are zeros). A step at a time: yields the guest bytes up to which all is done, often, also where it only
 * waits for the crew; whoever stops asking stops the copying. In the target every range is written or made zeros at
 * most once, in ascending order unless options say otherwise, but for what the host failed to copy. Throws what reading
 * and writing throw: of several reads that fail, the first in the order of the disk.
 */
export function* copyDisk(source: ReadDisk, target: WrittenDisk, options: CopyOptions, crew?: Crew): Generator<number> {
  yield* new Copying(source, target, options, crew).steps();
}

/** A piece on its way; `number` is that of its block. */
interface Underway {
  readonly piece: Piece;
  readonly number: number | undefined;
  written: boolean;
}

/** How many pieces are on their way for each block that may be: the others are zeros, which need nothing. */
const PIECES_FOR_BLOCK = 8;
/** Blocks of file systems that can share them are of this size, or smaller. */
const HOST_UNIT = 4096;
const LEAST_SHARED = 64 * 1024;
/** Nobody waits longer than this at once, in milliseconds. */
const NAP = 20;

class Copying {
  private readonly source: ReadDisk;
  /** Room for one block, as long as there is nobody to share the work with. */
  private ring = Ring.of(1);
  private readonly work: BlockWork;
  private readonly underway: Underway[] = [];
  /** Blocks among them. */
  private blocks = 0;
  /** Storages from which the host was seen not to copy. */
  private readonly notByHost = new Set<Storage>();
  private readonly nothing = new Int32Array(new SharedArrayBuffer(4));
  /** When what was written so far may be, at the rate that is wanted: as `performance.now` tells it. */
  private due = performance.now();

  constructor(
    source: ReadDisk,
    private readonly target: WrittenDisk,
    private readonly options: CopyOptions,
    private readonly crew: Crew | undefined,
  ) {
    this.source = options.lost === undefined ? source : new SalvagedDisk(source);
    this.work = blockWork(target, options);
  }

  *steps(): Generator<number> {
    const { underway, crew } = this;
    const end = Math.min(this.source.size, this.target.size);
    const rest = this.cut(pieces(this.source, end, { ...this.options, unit: this.work.packing?.unit ?? 1 }));
    let done = 0;
    for (;;) {
      crew?.assertWell();
      if (this.mustWait()) {
        yield done;
        continue;
      }
      // The blocks under way lie in the ring they were put into.
      if (this.blocks === 0 && crew?.ring !== undefined) this.ring = crew.ring;
      const { ring } = this;
      const { news } = ring;
      this.fill(rest);
      const [first] = underway;
      if (first === undefined) return;
      if (this.settled(first)) {
        underway.shift();
        if (first.number !== undefined) this.blocks--;
        done = first.piece.to;
        yield done;
        continue;
      }
      if (this.options.outOfOrder && this.writeAnyOther()) continue;
      if (ring.workOnNext((slot) => prepareBlock(this.source, slot, this.work))) continue;
      ring.waitForNews(news);
      yield done;
    }
  }

  /** Takes pieces on as long as there is room for their blocks. */
  private fill(rest: Iterator<Piece>): void {
    const { ring, underway } = this;
    while (this.blocks < ring.size && underway.length < ring.size * PIECES_FOR_BLOCK) {
      const next = rest.next();
      if (next.done === true) return;
      const piece = next.value;
      const read = piece.kind === 'data' && piece.place === undefined;
      if (read) {
        this.blocks++;
        this.crew?.expect(piece);
      }
      underway.push({ piece, number: read ? ring.put(piece.from, piece.to) : undefined, written: false });
    }
  }

  /** Whether the piece is in the target, putting it there if it can be. */
  private settled(one: Underway): boolean {
    if (one.written) return true;
    const { piece, number } = one;
    if (number === undefined) {
      if (piece.kind === 'zero') this.clear(piece.from, piece.to);
      if (piece.kind === 'data') this.copyByHost(piece);
    } else {
      if (!this.ring.isReady(number)) return false;
      this.write(this.ring.take(number));
    }
    one.written = true;
    return true;
  }

  /** A block that failed waits until it is the first. */
  private writeAnyOther(): boolean {
    const found = this.underway.find(
      (one) => !one.written && one.number !== undefined && this.ring.isPrepared(one.number),
    );
    return found !== undefined && this.settled(found);
  }

  private write(slot: Slot): void {
    const { target, options } = this;
    for (const one of slot.lost()) options.lost?.(one);
    let packedEnd = 0;
    for (const { zero, from, to, packed } of slot.runs()) {
      const at = slot.from + from;
      if (zero) this.clear(at, slot.from + to);
      else if (packed === 0) this.put(slot.bytes.subarray(from, to), at);
      else target.writePacked(slot.packed.subarray(packedEnd, packedEnd + packed), at);
      packedEnd += packed;
      if (!zero) this.count(to - from);
    }
  }

  /** Writes bytes of the source, or has the host share them. */
  private put(bytes: Buffer, at: number): void {
    for (let done = 0; done < bytes.length; ) {
      const here = at + done;
      const rest = bytes.length - done;
      const extent = this.options.share === true ? this.source.extent(here, rest) : undefined;
      const shared = extent === undefined ? 0 : this.shareByHost(extent, here);
      const length = shared === 0 ? (extent?.length ?? rest) : shared;
      if (shared === 0) this.target.write(bytes.subarray(done, done + length), here);
      done += length;
    }
  }

  /** Returns how many bytes are shared. Whole blocks are, and not so few that writing them costs less. */
  private shareByHost(extent: Extent, at: number): number {
    const place = placeOf(extent);
    const length = roundDown(extent.length, HOST_UNIT);
    if (place === undefined || this.notByHost.has(place.storage) || length < LEAST_SHARED) return 0;
    if (at % HOST_UNIT !== 0 || place.offset % HOST_UNIT !== 0) return 0;
    const done = this.target.copyIn(place.storage, place.offset, at, length, 'share');
    if (done === 0) this.notByHost.add(place.storage);
    return done;
  }

  private count(bytes: number): void {
    const { rate } = this.options;
    if (rate !== undefined) this.due = Math.max(this.due, performance.now() - 1000) + (bytes / rate) * 1000;
  }

  /** Waits for a moment where what was written is too much for the time that has passed. */
  private mustWait(): boolean {
    const { rate } = this.options;
    const early = rate === undefined ? 0 : this.due - performance.now();
    if (early <= 0) return false;
    Atomics.wait(this.nothing, 0, 0, Math.min(early, NAP));
    return true;
  }

  private clear(from: number, to: number): void {
    if (!this.options.targetIsZero) this.target.zero(from, to - from, { unmap: true });
  }

  private isForHost({ place }: Piece): boolean {
    return place !== undefined && !this.notByHost.has(place.storage);
  }

  /** What the host does not copy is read and written, here and now; what lies in the same storage is from now on. */
  private copyByHost({ from, to, place }: Piece): void {
    if (place === undefined) return;
    const { storage, offset } = place;
    let at = from;
    for (let done = 1; at < to && done > 0; at += done) {
      done = this.target.copyIn(storage, offset + at - from, at, to - at);
      this.count(done);
    }
    if (at === to) return;
    this.notByHost.add(storage);
    const slot = new Slot();
    for (const [start, end] of blocks(at, to)) {
      slot.set(start, end);
      prepareBlock(this.source, slot, this.work);
      this.write(slot);
    }
  }

  /** What the host does not copy is cut into blocks. */
  private *cut(all: Iterable<Piece>): Generator<Piece> {
    for (const piece of all) {
      if (piece.kind !== 'data' || this.isForHost(piece)) yield piece;
      else {
        const { kind, packed } = piece;
        for (const [from, to] of blocks(piece.from, piece.to)) yield { kind, from, to, packed, place: undefined };
      }
    }
  }
}

function* blocks(from: number, to: number): Generator<readonly [from: number, to: number]> {
  for (let at = from; at < to; ) {
    const end = Math.min(to, roundDown(at, BLOCK) + BLOCK);
    yield [at, end];
    at = end;
  }
}
