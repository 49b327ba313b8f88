import { ImgfsError } from '../lib/errors.js';
import type { Storage, StorageExtent } from './storage.js';

/** A range of a storage. */
export interface Piece {
  readonly storage: Storage;
  readonly at: number;
  readonly length: number;
}

/** Ranges of other storages, one after the other; read-only. Owns the storages, each of which it closes. */
export class JoinedStorage implements Storage {
  readonly writable = false;
  private readonly pieces: readonly (Piece & { readonly start: number; readonly end: number })[];
  private readonly length: number;
  private open = true;

  constructor(
    pieces: readonly Piece[],
    readonly name: string,
  ) {
    let start = 0;
    this.pieces = pieces.map((piece) => {
      const end = start + piece.length;
      const placed = { ...piece, start, end };
      start = end;
      return placed;
    });
    this.length = start;
  }

  size(): number {
    return this.length;
  }

  read(into: Uint8Array, at: number): number {
    // Before the first range lie bytes that are nobody's business here.
    if (!(at >= 0)) throw new RangeError(`${this.name}: read at ${at}`);
    const wanted = Math.max(0, Math.min(into.length, this.length - at));
    for (let done = 0; done < wanted; ) {
      const piece = this.pieceAt(at + done);
      const step = Math.min(wanted - done, piece.end - at - done);
      const part = step === into.length ? into : into.subarray(done, done + step);
      if (piece.storage.read(part, piece.at + at + done - piece.start) < step) {
        throw new ImgfsError('io', `${this.name}: the file became shorter while it was in use`);
      }
      done += step;
    }
    return wanted;
  }

  extent(at: number): StorageExtent {
    const piece = this.pieceAt(at);
    const run = piece.storage.extent(piece.at + at - piece.start);
    return { data: run.data, length: Math.min(run.length, piece.end - at) };
  }

  /** Of the files as a whole, but never more than the ranges have. */
  allocated(): number {
    const storages = new Set(this.pieces.map(({ storage }) => storage));
    return Math.min(
      this.length,
      [...storages].reduce((sum, storage) => sum + storage.allocated(), 0),
    );
  }

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
    for (const storage of new Set(this.pieces.map((piece) => piece.storage))) storage.close();
  }

  private pieceAt(at: number): (typeof this.pieces)[number] {
    const [first] = this.pieces;
    if (first !== undefined && at < first.end) return first;
    const found = this.pieces.find(({ end }) => at < end);
    if (found === undefined) throw new RangeError(`${this.name}: ${at} is outside`);
    return found;
  }

  private readOnly(): ImgfsError {
    return new ImgfsError('read-only', `${this.name} is open read-only`);
  }
}
