import { roundUp } from '../lib/bits.js';
import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { Health } from './health.js';
import type { Preallocation } from './image.js';
import type { Mapping } from './mapping.js';
import type { LayerWriter, Placement } from './writer.js';

/** What writing asks of the reading side of the same image. Ranges may reach past the end of the disk. */
export interface WrittenDisk {
  readonly size: number;
  /** The unit the layer allocates in. */
  readonly blockSize: number;
  /** Where the backing image ends, 0 without one: beyond it, what the layer has no say about reads as zeros. */
  readonly backingSize: number;
  map(at: number, length: number): Mapping;
  /** The present content; zeros past the end of the disk. */
  read(into: Uint8Array, at: number): void;
  /** Whether the range is known to read as zeros, by the tables alone. */
  readsAsZeros(at: number, length: number): boolean;
}

/** Bytes that lie in one piece. */
interface Run {
  readonly storage: Storage;
  readonly offset: number;
  readonly length: number;
}

/** At most this much goes into one placement, so that the buffer for copied content stays small. */
const MAX_PLACEMENT = 4 * 1024 * 1024;
const MAX_ZEROS = 1024 * 1024;
const ZEROS = new Uint8Array(MAX_ZEROS);

/**
 * The one write path of every format: overwrites in place what the layer owns, and has the driver place the rest,
 * carrying old content along where a unit is not wholly replaced. The order that makes this safe is the driver's
 * `commit`; what must be known for it (was anything copied or replaced, was the place fresh) is decided here.
 */
export class WritePath {
  private scratch = new Uint8Array();

  constructor(
    private readonly disk: WrittenDisk,
    readonly writer: LayerWriter,
    readonly health: Health,
  ) {}

  /** As `Image.overwrite`. Parts of sectors are left to `write`: other threads may write the other part just now. */
  overwrite(from: Uint8Array, at: number): number {
    this.health.assertSound();
    if (from.length === 0 || !this.writer.ready) return 0;
    const run = this.ownRun(at, from.length);
    if (run === undefined) return 0;
    if (run.length === from.length) return this.overwriteSectors(run, from, at);
    if (!this.isOwn(at + run.length, from.length - run.length)) return 0;
    for (let done = 0; done < from.length; ) {
      const next = this.ownRun(at + done, from.length - done);
      const part = next === undefined ? 0 : this.overwriteSectors(next, from.subarray(done), at + done);
      if (part === 0) return done;
      done += part;
    }
    return from.length;
  }

  write(from: Uint8Array, at: number): void {
    this.prepare();
    for (let done = 0; done < from.length; ) {
      const rest = done === 0 ? from : from.subarray(done);
      const own = this.ownRun(at + done, rest.length);
      const after = own?.length ?? 0;
      // What follows on the host elsewhere is the business of the next round.
      if (own !== undefined && (after === rest.length || this.ownRun(at + done + after, 1) !== undefined)) {
        this.overwriteRun(own, after, rest);
        done += after;
      } else {
        done += this.place(rest, at + done, own);
      }
    }
  }

  /** The run of the layer's own bytes that begins at `at`, one piece on the host. */
  private ownRun(at: number, length: number): Run | undefined {
    const first = this.disk.map(at, length);
    if (first.kind !== 'data' || first.ours !== true) return undefined;
    if (first.length === length) return first;
    const { storage, offset } = first;
    let run = first.length;
    while (run < length) {
      const next = this.disk.map(at + run, length - run);
      if (next.kind !== 'data' || next.ours !== true) break;
      if (next.storage !== storage || next.offset !== offset + run) break;
      run += next.length;
    }
    return { storage, offset, length: run };
  }

  private isOwn(at: number, length: number): boolean {
    for (let done = 0; done < length; ) {
      const mapping = this.disk.map(at + done, length - done);
      if (mapping.kind !== 'data' || mapping.ours !== true) return false;
      done += mapping.length;
    }
    return true;
  }

  private overwriteSectors(run: Run, from: Uint8Array, at: number): number {
    const length = wholeSectors(run.storage, at, run.length);
    if (length > 0) this.overwriteRun(run, length, from);
    return length;
  }

  /** With the first `length` bytes of `from`, which may go on behind the run. */
  private overwriteRun({ storage, offset }: Run, length: number, from: Uint8Array): void {
    this.writer.guard(storage, offset, length);
    storage.write(length === from.length ? from : from.subarray(0, length), offset);
  }

  /** As `Image.copyIn`. */
  copyIn(source: Storage, from: number, at: number, length: number, share?: 'share'): number {
    this.prepare();
    const mapping = this.disk.map(at, length);
    if (mapping.kind === 'data' && mapping.ours === true) {
      if (mapping.storage.copyFrom === undefined) return 0;
      this.writer.guard(mapping.storage, mapping.offset, mapping.length);
      return mapping.storage.copyFrom(source, from, mapping.offset, mapping.length, share) ? mapping.length : 0;
    }
    const placement = this.writer.allocate(at, Math.min(length, MAX_PLACEMENT));
    const head = at - placement.start;
    const part = Math.min(length, placement.length - head);
    const harmless = this.isHarmless(placement);
    let done = false;
    try {
      // Old content that has to go along is the business of `write`.
      if (harmless || part === placement.length) {
        done = placement.storage.copyFrom?.(source, from, placement.offset + head, part, share) ?? false;
      }
    } finally {
      if (!done) placement.abandon();
    }
    if (!done) return 0;
    placement.commit(!harmless);
    return part;
  }

  /** As `Image.writePacked`. */
  writePacked(packed: Uint8Array, at: number): void {
    const { packing } = this.writer;
    if (packing === undefined || this.writer.writePacked === undefined) {
      throw new ImgfsError('unsupported', 'the image stores nothing packed');
    }
    if (at % packing.unit !== 0) throw new RangeError(`${at} is no multiple of ${packing.unit}`);
    this.prepare();
    this.writer.writePacked(packed, at);
  }

  /** Zeros without writing them where the format can say so; written zeros for what remains of units. */
  zero(at: number, length: number, options: { readonly unmap: boolean }): void {
    this.prepare();
    const { unit } = this.writer;
    const end = at + length;
    for (let here = at; here < end; ) {
      const done = this.writer.zero(here, end - here, options);
      here += done;
      if (done > 0) continue;
      const step = Math.min(end, roundUp(here + 1, unit)) - here;
      this.clear(here, step);
      here += step;
    }
  }

  flush(): void {
    this.health.assertSound();
    this.writer.flush();
  }

  /**
   * A larger disk must not show what lies behind its old end: the rest of the last unit (another program may have
   * left bytes there) and the backing image where that is longer. Both are made zeros, durably, before the size says
   * that they belong to the disk.
   */
  resize(size: number, preallocation: Preallocation): void {
    this.prepare();
    const old = this.disk.size;
    if (size > old) {
      this.writer.reach(size);
      const end = Math.min(size, Math.max(roundUp(old, this.disk.blockSize), this.disk.backingSize));
      if (end > old) this.zero(old, end - old, { unmap: false });
    }
    this.writer.flush();
    if (size !== old) this.writer.resize(size, size > old ? preallocation : 'off');
  }

  /** As `Image.empty`. */
  empty(): void {
    this.health.assertSound();
    if (this.writer.empty === undefined) throw new ImgfsError('unsupported', 'images of this format cannot be emptied');
    this.prepare();
    this.writer.flush();
    this.writer.empty();
  }

  /** Nothing more can be changed after this. A damaged image is left as it is. */
  finish(): void {
    if (this.health.sound) this.writer.finish();
  }

  private prepare(): void {
    this.health.assertSound();
    if (!this.writer.ready) this.writer.prepare();
  }

  /** Writes zeros, in steps, where the tables do not say already that zeros are read. */
  private clear(at: number, length: number): void {
    for (let done = 0; done < length; done += MAX_ZEROS) {
      const step = Math.min(MAX_ZEROS, length - done);
      if (!this.disk.readsAsZeros(at + done, step)) this.write(ZEROS.subarray(0, step), at + done);
    }
  }

  /**
   * Puts the beginning of `from` into new space, but for what goes to `own`, which lies before it. Returns how many of
   * its bytes. Where the new space continues `own` on the host, one write serves both: a guest that writes on and on
   * does so rarely in whole units, and past the host's page cache each write costs a visit to the disk.
   */
  private place(from: Uint8Array, at: number, own: Run | undefined): number {
    const skip = own?.length ?? 0;
    const placement = this.writer.allocate(at + skip, Math.min(from.length - skip, MAX_PLACEMENT));
    const head = at + skip - placement.start;
    const end = skip + Math.min(from.length - skip, placement.length - head);
    const harmless = this.isHarmless(placement);
    const { storage, offset } = placement;
    try {
      if (own !== undefined && harmless && continues(own, storage, offset + head)) {
        this.overwriteRun(own, end, from);
      } else {
        if (own !== undefined) this.overwriteRun(own, skip, from);
        const data = from.subarray(skip, end);
        if (harmless) storage.write(data, offset + head);
        else storage.write(this.withOldContent(placement, data, head), offset);
      }
    } catch (error) {
      placement.abandon();
      throw error;
    }
    placement.commit(!harmless);
    return end;
  }

  /**
   * Where the guest reads zeros now and the host reads zeros too, no crash can show anything but old or new bytes.
   * Everywhere else, replaced bytes included, a table that points here too early would show neither.
   */
  private isHarmless({ storage, fresh, start, length }: Placement): boolean {
    return storage.sector === undefined && fresh && this.disk.readsAsZeros(start, length);
  }

  /** The placement's whole content: `data` at `head`, what the guest reads now around it. */
  private withOldContent({ start, length }: Placement, data: Uint8Array, head: number): Uint8Array {
    if (data.length === length) return data;
    if (this.scratch.length < length) this.scratch = new Uint8Array(length);
    const whole = this.scratch.subarray(0, length);
    const tail = head + data.length;
    if (head > 0) this.disk.read(whole.subarray(0, head), start);
    whole.set(data, head);
    if (tail < length) this.disk.read(whole.subarray(tail), start + tail);
    return whole;
  }
}

function continues({ storage, offset, length }: Run, next: Storage, at: number): boolean {
  return storage === next && offset + length === at;
}

/** How much of a run can be written without reading parts of sectors: none where it begins inside one. */
function wholeSectors({ sector = 1 }: Storage, at: number, length: number): number {
  return at % sector === 0 ? length - (length % sector) : 0;
}
