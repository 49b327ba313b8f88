import { ReadOnlyStorage } from './read-only.js';
import type { Storage, StorageExtent } from './storage.js';

/** A range of a storage. */
export interface Piece {
  readonly storage: Storage;
  readonly at: number;
  readonly length: number;
}

/** Ranges of other storages, one after the other; read-only. Owns the storages, each of which it closes. */
export class JoinedStorage extends ReadOnlyStorage {
  private readonly pieces: readonly (Piece & { readonly start: number; readonly end: number })[];

  constructor(pieces: readonly Piece[], name: string) {
    super(
      name,
      pieces.reduce((sum, { length }) => sum + length, 0),
    );
    let start = 0;
    this.pieces = pieces.map((piece) => {
      const end = start + piece.length;
      const placed = { ...piece, start, end };
      start = end;
      return placed;
    });
  }

  extent(at: number): StorageExtent {
    const piece = this.pieceAt(at);
    const run = piece.storage.extent(piece.at + at - piece.start);
    return { data: run.data, length: Math.min(run.length, piece.end - at) };
  }

  /** Of the files as a whole, but never more than the ranges have. */
  allocated(): number {
    return Math.min(
      this.size(),
      this.storages().reduce((sum, storage) => sum + storage.allocated(), 0),
    );
  }

  protected readPiece(into: Uint8Array, at: number): number {
    const piece = this.pieceAt(at);
    const length = Math.min(into.length, piece.end - at);
    const part = length === into.length ? into : into.subarray(0, length);
    return piece.storage.read(part, piece.at + at - piece.start) < length ? 0 : length;
  }

  protected release(): void {
    for (const storage of this.storages()) storage.close();
  }

  private storages(): readonly Storage[] {
    return [...new Set(this.pieces.map(({ storage }) => storage))];
  }

  private pieceAt(at: number): (typeof this.pieces)[number] {
    const [first] = this.pieces;
    if (first !== undefined && at < first.end) return first;
    const found = this.pieces.find(({ end }) => at < end);
    if (found === undefined) throw new RangeError(`${this.name}: ${at} is outside`);
    return found;
  }
}
