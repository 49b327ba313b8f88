import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from '../storage/storage.js';
import { type Format, PROBE_BYTES } from './format.js';

/**
 * A file taken for raw only because no format claimed it. Its guest must not be able to make it look like an image,
 * which the next program to open it would believe, and follow to whatever file it names: changes that would are refused,
 * of whatever kind, for every format there is. Who says that the file is raw gets no such guard.
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

  /** Two threads may each write a part of a header: what lies there is looked at again, and taken back, afterwards. */
  write(from: Uint8Array, at: number): void {
    const size = this.storage.size();
    const end = at + from.length;
    const after = Math.max(size, end);
    if (!touchesEnds(at, end, size) && after === size) {
      this.storage.write(from, at);
      return;
    }
    this.assertRaw({ at, end, bytes: from }, after);
    const old = Buffer.alloc(Math.max(0, Math.min(end, size) - at));
    this.storage.read(old, at);
    this.storage.write(from, at);
    try {
      this.assertRaw(NOTHING, this.storage.size());
    } catch (error) {
      this.storage.write(old, at);
      throw error;
    }
  }

  flush(): void {
    this.storage.flush();
  }

  /** Another length has another end, and some formats are told by their end. */
  resize(size: number): void {
    this.assertRaw(NOTHING, size);
    this.storage.resize(size);
  }

  discard(at: number, length: number): void {
    const size = this.storage.size();
    const end = Math.min(at + length, size);
    if (touchesEnds(at, end, size)) this.assertRaw({ at, end, bytes: undefined }, size);
    this.storage.discard(at, length);
  }

  allocate(at: number, length: number): void {
    const size = this.storage.size();
    if (at + length > size) this.assertRaw(NOTHING, at + length);
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

  /** Whether it is still nobody's with that change and of that size. */
  private assertRaw(change: Change, size: number): void {
    const head = this.after(change, 0, Math.min(PROBE_BYTES, size));
    const tail = this.after(change, Math.max(0, size - PROBE_BYTES), size);
    const claim = this.formats.find((format) => format.probe(head, tail, size));
    if (claim === undefined) return;
    throw new ImgfsError('refused', `${this.name} would look like ${claim.name} after this change`, {
      hint: 'if it really is a raw disk, say --format raw',
    });
  }

  /** The bytes from `start` to `end` as they would be. */
  private after(change: Change, start: number, end: number): Buffer {
    const bytes = Buffer.alloc(end - start);
    this.storage.read(bytes, start);
    const [first, last] = [Math.max(start, change.at), Math.min(end, change.end)];
    if (first >= last) return bytes;
    if (change.bytes === undefined) bytes.fill(0, first - start, last - start);
    else bytes.set(change.bytes.subarray(first - change.at, last - change.at), first - start);
    return bytes;
  }
}

/** Bytes that are to be replaced; undefined for zeros. */
interface Change {
  readonly at: number;
  readonly end: number;
  readonly bytes: Uint8Array | undefined;
}

const NOTHING: Change = { at: 0, end: 0, bytes: undefined };

/** Whether the range reaches into what probes look at. */
function touchesEnds(at: number, end: number, size: number): boolean {
  return at < PROBE_BYTES || end > size - PROBE_BYTES;
}
