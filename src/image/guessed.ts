import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from '../storage/storage.js';
import { type Format, PROBE_BYTES } from './format.js';

/**
 * A file taken for raw only because no format claimed it. Its guest must not be able to make it look like an image,
 * which the next program to open it would believe, and follow to whatever file it names: writes that would are
 * refused. Who says that the file is raw gets no such guard.
 */
export class GuessedRaw implements Storage {
  readonly name: string;
  readonly writable: boolean;

  constructor(
    private readonly storage: Storage,
    private readonly formats: readonly Format[],
  ) {
    this.name = storage.name;
    this.writable = storage.writable;
  }

  size(): number {
    return this.storage.size();
  }

  read(into: Uint8Array, at: number): number {
    return this.storage.read(into, at);
  }

  write(from: Uint8Array, at: number): void {
    const size = this.storage.size();
    if (at < PROBE_BYTES || at + from.length > size - PROBE_BYTES) this.assertStillRaw(from, at, size);
    this.storage.write(from, at);
  }

  flush(): void {
    this.storage.flush();
  }

  resize(size: number): void {
    this.storage.resize(size);
  }

  discard(at: number, length: number): void {
    this.storage.discard(at, length);
  }

  allocate(at: number, length: number): void {
    this.storage.allocate(at, length);
  }

  extent(at: number): StorageExtent {
    return this.storage.extent(at);
  }

  allocated(): number {
    return this.storage.allocated();
  }

  close(): void {
    this.storage.close();
  }

  private assertStillRaw(from: Uint8Array, at: number, size: number): void {
    const head = this.after(from, at, 0, Math.min(PROBE_BYTES, size));
    const tail = this.after(from, at, Math.max(0, size - PROBE_BYTES), size);
    const claim = this.formats.find((format) => format.probe(head, tail, size));
    if (claim === undefined) return;
    throw new ImgfsError('refused', `${this.name} would look like ${claim.name} after this write`, {
      hint: 'if it really is a raw disk, mount it with --format raw',
    });
  }

  /** The bytes from `start` to `end` as they would be with `from` written at `at`. */
  private after(from: Uint8Array, at: number, start: number, end: number): Buffer {
    const bytes = Buffer.alloc(end - start);
    this.storage.read(bytes, start);
    const [first, last] = [Math.max(start, at), Math.min(end, at + from.length)];
    if (first < last) bytes.set(from.subarray(first - at, last - at), first - start);
    return bytes;
  }
}
