/** A sparse extent: what its grain tables say about guest bytes. */
import type { Mapping } from '../../image/mapping.js';
import { corrupt } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import type { Extent } from './extents.js';
import type { SparseShape } from './header.js';
import { SECTOR, seSparseGrain } from './layout.js';
import { PackedGrain, Unpacker } from './stream.js';
import { type DiskTables, GrainTables } from './tables.js';

/** What a grain is: without anything here, zeros, or at this host offset. */
export type Grain = 'hole' | 'zero' | number;

/** Host offsets of grains are below this, for keys of compressed grains that differ between extents. */
const EXTENT_BYTES = 2 ** 41;

export interface SparseParts {
  readonly storage: Storage;
  readonly shape: SparseShape;
  /** Guest bytes the disk has of it. */
  readonly size: number;
  /** Tells the files of one disk apart. */
  readonly file: number;
  readonly caches: DiskTables;
  readonly writable: boolean;
  /** The driver's cells, where the extent is the whole disk and may grow. */
  readonly cells?: Float64Array | undefined;
}

export class SparseExtent implements Extent {
  readonly storage: Storage;
  readonly shape: SparseShape;
  readonly file: number;
  readonly tables: GrainTables;
  /** Guest bytes that one grain table maps. */
  readonly span: number;
  readonly size: number;
  private readonly writable: boolean;
  private readonly unpacker: Unpacker | undefined;

  constructor({ storage, shape, size, file, caches, writable, cells }: SparseParts) {
    this.storage = storage;
    this.shape = shape;
    this.size = size;
    this.file = file;
    this.writable = writable;
    this.span = shape.grainSize * shape.entriesPerTable;
    this.tables = new GrainTables(storage, shape, caches, file, cells);
    this.unpacker = shape.compressed ? new Unpacker(storage, shape) : undefined;
  }

  get grainSize(): number {
    return this.shape.grainSize;
  }

  map(at: number, length: number): Mapping {
    const { span, tables } = this;
    const { grainSize, entryBytes } = this.shape;
    const n = Math.floor(at / span);
    const found = tables.find(n);
    if (found === undefined) return { kind: 'hole', length: this.missing(at, length, n) };
    const first = Math.floor((at - n * span) / grainSize);
    const within = at % grainSize;
    const piece = tables.caches.tables.piece(found.table, first * entryBytes);
    const from = first * entryBytes - piece.from;
    const grain = this.entry(piece.bytes, from);
    if (grain === undefined) throw corrupt(`${this.storage.name}: entry ${first} of grain table ${n} is invalid`);
    if (typeof grain === 'number' && this.unpacker !== undefined) return this.packed(grain, at, length, this.unpacker);
    const most = Math.min((piece.bytes.length - from) / entryBytes, Math.ceil((within + length) / grainSize));
    let count = 1;
    for (; count < most; count++) {
      const next = typeof grain === 'number' ? grain + count * grainSize : grain;
      if (this.entry(piece.bytes, from + count * entryBytes) !== next) break;
    }
    const run = Math.min(length, count * grainSize - within);
    if (typeof grain !== 'number') return { kind: grain, length: run };
    return { kind: 'data', length: run, storage: this.storage, offset: grain + within, ours: this.writable };
  }

  /** What the entry at byte `at` of a piece of a grain table says; undefined for an invalid one. */
  entry(bytes: Buffer, at: number): Grain | undefined {
    const { tables, zeroGrains, grainSize } = this.shape;
    const low = bytes.readUInt32LE(at);
    if (tables === undefined) {
      if (low === 0) return 'hole';
      return low === 1 && zeroGrains ? 'zero' : low * SECTOR;
    }
    const grain = seSparseGrain(low, bytes.readUInt32LE(at + 4));
    if (typeof grain === 'string') return grain === 'bad' ? undefined : grain;
    const offset = tables.grainsAt + grain * grainSize;
    return Number.isSafeInteger(offset) ? offset : undefined;
  }

  /** Bytes from `at` on that lie in tables that are missing. */
  private missing(at: number, length: number, n: number): number {
    const most = Math.ceil((at + length) / this.span) - n;
    return Math.min(length, (n + this.tables.missing(n, most)) * this.span - at);
  }

  private packed(grain: number, at: number, length: number, unpacker: Unpacker): Mapping {
    const { grainSize, size, file } = this;
    const skip = at % grainSize;
    const needed = Math.min(grainSize, size - (at - skip));
    const unit = new PackedGrain(file * EXTENT_BYTES + grain, grainSize, skip, grain, needed, unpacker);
    return { kind: 'packed', length: Math.min(length, grainSize - skip), unit };
  }
}
