import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from './storage.js';

/**
 * A window of another storage: `length` bytes from `start`. Offset 0 of the slice is `start` of the parent. The
 * window has a fixed size; writes beyond it are refused. The parent stays its owner's and is not closed with it.
 */
export class SliceStorage implements Storage {
  readonly writable: boolean;

  constructor(
    private readonly parent: Storage,
    private readonly start: number,
    private readonly length: number,
    readonly name = `${parent.name}[${start}+${length}]`,
  ) {
    this.writable = parent.writable;
  }

  size(): number {
    return this.length;
  }

  read(into: Uint8Array, at: number): number {
    // Before the window lie bytes that are nobody's business here.
    if (!(at >= 0)) throw new RangeError(`${this.name}: read at ${at}`);
    const wanted = Math.max(0, Math.min(into.length, this.length - at));
    if (wanted === 0) return 0;
    return this.parent.read(wanted === into.length ? into : into.subarray(0, wanted), this.start + at);
  }

  write(from: Uint8Array, at: number): void {
    this.within(at, from.length);
    this.parent.write(from, this.start + at);
  }

  flush(): void {
    this.parent.flush();
  }

  resize(): void {
    throw new ImgfsError('unsupported', `${this.name}: a part of a file cannot be resized`);
  }

  discard(at: number, length: number): void {
    this.within(at, 0);
    this.parent.discard(this.start + at, Math.min(length, this.length - at));
  }

  allocate(at: number, length: number): void {
    this.within(at, length);
    this.parent.allocate(this.start + at, length);
  }

  extent(at: number): StorageExtent {
    const there = this.start + at;
    const rest = this.length - at;
    if (there >= this.parent.size()) return { data: false, length: rest };
    const run = this.parent.extent(there);
    return { data: run.data, length: Math.min(run.length, rest) };
  }

  allocated(): number {
    return Math.min(this.length, this.parent.allocated());
  }

  close(): void {}

  private within(at: number, length: number): void {
    if (!(at >= 0 && at + length <= this.length)) throw new ImgfsError('io', `${this.name}: outside the range`);
  }
}
