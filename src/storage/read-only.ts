import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from './storage.js';

/** A storage of a fixed length that is only read, piece by piece. */
export abstract class ReadOnlyStorage implements Storage {
  readonly writable = false;
  private open = true;

  constructor(
    readonly name: string,
    private readonly length: number,
  ) {}

  size(): number {
    return this.length;
  }

  read(into: Uint8Array, at: number): number {
    // Before the beginning may lie bytes that are nobody's business here.
    if (!(at >= 0)) throw new RangeError(`${this.name}: read at ${at}`);
    const wanted = Math.max(0, Math.min(into.length, this.length - at));
    for (let done = 0; done < wanted; ) {
      const rest = done === 0 && wanted === into.length ? into : into.subarray(done, wanted);
      const step = this.readPiece(rest, at + done);
      if (step === 0) throw new ImgfsError('io', `${this.name}: the file changed while it was in use`);
      done += step;
    }
    return wanted;
  }

  abstract extent(at: number): StorageExtent;

  abstract allocated(): number;

  write(): never {
    throw this.readOnly();
  }

  flush(): void {}

  resize(): never {
    throw this.readOnly();
  }

  discard(): never {
    throw this.readOnly();
  }

  allocate(): never {
    throw this.readOnly();
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.release();
  }

  /** Fills the beginning of `into`, all of which lies inside, and returns how much; 0 where that is not there any more. */
  protected abstract readPiece(into: Uint8Array, at: number): number;

  /** Releases what is owned; called once. */
  protected abstract release(): void;

  private readOnly(): ImgfsError {
    return new ImgfsError('read-only', `${this.name} is open read-only`);
  }
}
