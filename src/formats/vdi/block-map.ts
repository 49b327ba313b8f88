import type { Health } from '../../image/health.js';
import type { Limits } from '../../image/limits.js';
import type { Stamps } from '../../image/sharing.js';
import { type Table, TableCache } from '../../image/table-cache.js';
import { corrupt } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { blockStride, type Header } from './header.js';
import { ENTRY, ENTRY_BYTES } from './layout.js';

/** Bytes of the map that are read at once: a GiB of the guest, where blocks have their usual size. */
const PIECE = 4096;

/** What a run of blocks is mapped to. */
export interface BlockRun {
  /** `free`, `zero`, or where the first block's bytes begin. */
  readonly host: number | 'free' | 'zero';
  readonly blocks: number;
}

/** The block map: an entry for each block of the guest, in pieces that are read when they are needed. */
export class BlockMap {
  private readonly cache: TableCache;
  private table: Table;

  constructor(
    private readonly storage: Storage,
    private header: Header,
    limits: Limits,
    stamps: Stamps,
    health: Health,
  ) {
    this.cache = new TableCache(PIECE, limits.cacheBytes, stamps, health);
    this.table = tableOf(storage, header);
  }

  /** The header changed, and the map perhaps moved. */
  adopt(header: Header): void {
    if (header.mapAt !== this.header.mapAt || header.blocks !== this.header.blocks) this.cache.clear();
    this.header = header;
    this.table = tableOf(this.storage, header);
  }

  /** The run that begins with guest block `first`, of at most `most` blocks. Throws `corrupt` for an entry no writer makes. */
  find(first: number, most: number): BlockRun {
    const { header } = this;
    const piece = this.cache.piece(this.table, first * ENTRY_BYTES);
    const { bytes } = piece;
    const at = first * ENTRY_BYTES - piece.from;
    const entry = bytes.readUInt32LE(at);
    const step = isBlock(entry) && header.blockExtra === 0 ? 1 : 0;
    const single = isBlock(entry) && header.blockExtra > 0;
    const last = single ? at : Math.min(bytes.length, at + most * ENTRY_BYTES);
    let blocks = 1;
    for (let next = at + ENTRY_BYTES; next < last; next += ENTRY_BYTES) {
      if (bytes.readUInt32LE(next) !== entry + blocks * step) break;
      blocks++;
    }
    return { host: this.meaning(entry, first), blocks };
  }

  /** Entries as they are, from guest block `first` on: those of one piece, at most `most`. Good until the next call. */
  entries(first: number, most: number): Buffer {
    const piece = this.cache.piece(this.table, first * ENTRY_BYTES);
    const at = first * ENTRY_BYTES - piece.from;
    return piece.bytes.subarray(at, at + Math.min(most * ENTRY_BYTES, piece.bytes.length - at));
  }

  /** Every entry in turn, by guest block. */
  *all(): Generator<readonly [block: number, entry: number]> {
    const { blocks } = this.header;
    for (let first = 0; first < blocks; ) {
      const entries = Buffer.from(this.entries(first, blocks - first));
      for (let at = 0; at < entries.length; at += ENTRY_BYTES)
        yield [first + at / ENTRY_BYTES, entries.readUInt32LE(at)];
      first += entries.length / ENTRY_BYTES;
    }
  }

  /** `count` entries from guest block `first` on lead to consecutive blocks of the file, or all have one value. */
  set(first: number, count: number, entry: number): void {
    const step = isBlock(entry) ? 1 : 0;
    const bytes = Buffer.alloc(count * ENTRY_BYTES);
    for (let n = 0; n < count; n++) bytes.writeUInt32LE(entry + n * step, n * ENTRY_BYTES);
    this.cache.write(this.table, first * ENTRY_BYTES, bytes);
  }

  private meaning(entry: number, block: number): BlockRun['host'] {
    if (entry === ENTRY.free) return 'free';
    if (entry === ENTRY.zero) return 'zero';
    const { storage, header } = this;
    if (entry < Math.max(header.blocks, header.allocated)) return hostOf(header, entry);
    throw corrupt(
      `${storage.name}: the map leads from block ${block} to block ${entry}, which no image of its size has`,
    );
  }
}

/** Whether an entry leads to a block of the file. */
export function isBlock(entry: number): boolean {
  return entry < ENTRY.zero;
}

/** Where the bytes of a block of the file begin. */
export function hostOf(header: Header, index: number): number {
  return header.dataAt + index * blockStride(header) + header.blockExtra;
}

/** The block of the file whose bytes begin there. */
export function indexAt(header: Header, host: number): number {
  return (host - header.blockExtra - header.dataAt) / blockStride(header);
}

function tableOf(storage: Storage, { mapAt, blocks }: Header): Table {
  return { storage, file: 0, at: mapAt, bytes: blocks * ENTRY_BYTES, what: 'block map' };
}
