import { LRUCache } from 'lru-cache';
import type { Health } from '../../../image/health.js';
import { checkTable, type Limits } from '../../../image/limits.js';
import { rewrite } from '../../../image/rewrite.js';
import type { Stamps } from '../../../image/sharing.js';
import { bigEndianBytes, bigEndianWords, roundDown, roundUp } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import { type Header, l1Claim } from '../header.js';
import { STAMP } from '../write/cells.js';

/**
 * L2 tables are cached in pieces of at most this, as QEMU does: a 2 MiB table would cost a random read 2 MiB of
 * input and a quarter of the cache.
 */
const SLICE_BYTES = 64 * 1024;

/**
 * Tables are written in whole sectors: what a medium stores whole or not at all never cuts an entry. In whole blocks
 * where there is no cache above the medium: anything less would be read first.
 */
const SECTOR_WORDS = 128;
const BLOCK_WORDS = 1024;

/** Reads an L1 table as words (high, low per entry). Throws what `checkTable` throws. */
export function readL1(storage: Storage, limits: Limits, at: number, entries: number, header: Header): Uint32Array {
  const bytes = new Uint8Array(checkTable(storage, l1Claim(at, entries, header.clusterSize, limits)));
  readTable(storage, bytes, at, 'L1 table');
  return bigEndianWords(bytes);
}

/** An L1 table a lookup begins with: a snapshot's, which never changes, or the active one. */
export interface L1 {
  readonly words: Uint32Array;
}

/** The active L1 table: what the file holds, entry for entry. */
export class ActiveL1 implements L1 {
  words: Uint32Array;
  private at: number;
  private stamp: number;

  constructor(
    private readonly storage: Storage,
    private readonly limits: Limits,
    private readonly stamps: Stamps,
    header: Header,
  ) {
    this.at = header.l1At;
    this.stamp = stamps.stamp(STAMP.l1);
    this.words = readL1(storage, limits, header.l1At, header.l1Entries, header);
  }

  /** Reads it again if it moved or another thread changed it. Says whether it did. */
  catchUp(header: Header): boolean {
    const stamp = this.stamps.stamp(STAMP.l1);
    if (stamp === this.stamp && header.l1At === this.at) return false;
    this.words = readL1(this.storage, this.limits, header.l1At, header.l1Entries, header);
    this.at = header.l1At;
    this.stamp = stamp;
    return true;
  }

  /** The header names another table now, which holds these words. Other threads read it. */
  adopt(words: Uint32Array, header: Header): void {
    this.words = words;
    this.at = header.l1At;
    this.changed();
  }

  /** Writes one entry through. */
  set(index: number, high: number, low: number, health: Health): void {
    writeWords(this.storage, this.at, this.words, index * 2, Uint32Array.of(high, low), health);
    this.changed();
  }

  /** Other threads read it again. */
  private changed(): void {
    this.stamps.bump(STAMP.l1);
    this.stamps.bump(STAMP.any);
    this.stamp = this.stamps.stamp(STAMP.l1);
  }
}

/** Replaces words of a table from `first` on: in the file, whole sectors, then in `table`, its copy in memory. */
function writeWords(
  storage: Storage,
  at: number,
  table: Uint32Array,
  first: number,
  words: Uint32Array,
  health: Health,
): void {
  const unit = storage.unbuffered === true ? BLOCK_WORDS : SECTOR_WORDS;
  const from = roundDown(first, unit);
  const to = Math.min(table.length, roundUp(first + words.length, unit));
  const old = table.subarray(from, to);
  const next = old.slice();
  next.set(words, first - from);
  const bytes = bigEndianBytes(next);
  rewrite(storage, { at: at + from * 4, bytes, old: () => bigEndianBytes(old) }, health);
  table.set(words, first);
}

/**
 * A piece of an L2 table. `disk` is what the file holds, or will when the cache settles; `live` what the guest sees: they
 * differ (and are two arrays) while entries of the slice are pending.
 */
export interface Slice {
  readonly at: number;
  readonly disk: Uint32Array;
  live: Uint32Array;
  stamp: number;
}

/** Words of a slice, from `from` up to `to`. */
interface Words {
  readonly from: number;
  readonly to: number;
}

/** Entries that stand in an L2 table as the guest sees it, though not in the file yet. */
export interface Overlay {
  /** Puts the entries that belong to the slice into `slice.live`. */
  cover(slice: Slice): void;
}

/** Slices of L2 tables, least recently used out first, within `limits.cacheBytes`. Shared by all layers of an image. */
export class L2Cache {
  /** L2 entries per slice. */
  readonly entries: number;
  /** 32-bit words per L2 entry: 2, or 4 with subclusters. */
  readonly words: number;
  readonly sliceBytes: number;
  private readonly slices: LRUCache<number, Slice>;
  /** What of which slices is still to be written. All of them are cached. */
  private readonly gathered = new Map<Slice, Words>();
  private last: Slice | undefined;
  private overlay: Overlay | undefined;

  constructor(
    private readonly storage: Storage,
    header: Header,
    limits: Limits,
    private readonly stamps: Stamps,
    /** As in `OpenContext`. */
    private readonly filling = false,
  ) {
    this.words = header.extended ? 4 : 2;
    this.sliceBytes = Math.min(header.clusterSize, SLICE_BYTES);
    this.entries = this.sliceBytes / (4 * this.words);
    this.slices = new LRUCache({ max: Math.max(2, Math.floor(limits.cacheBytes / this.sliceBytes)) });
  }

  /** From now on loaded slices get what is pending in them. */
  coverWith(overlay: Overlay): void {
    this.overlay = overlay;
  }

  /** Host offset of the slice with entry `index` of the table at `table`. */
  sliceOffset(table: number, index: number): number {
    return table + Math.floor(index / this.entries) * this.sliceBytes;
  }

  /**
   * The slice with entry `index` of the table at host offset `table` (aligned). It stays the cache's.
   * Throws `truncated` when the file ends inside it; nothing is cached then.
   */
  slice(table: number, index: number): Slice {
    const at = this.sliceOffset(table, index);
    const { last } = this;
    if (last !== undefined && last.at === at && last.stamp === this.stamps.stamp(this.key(at))) return last;
    return this.find(at);
  }

  /** The slice at host offset `at`, loaded if need be. */
  sliceAt(at: number): Slice {
    return this.slice(at, 0);
  }

  /** The slice at `at` if it is cached and up to date. */
  cached(at: number): Slice | undefined {
    const slice = this.slices.get(at);
    return slice !== undefined && slice.stamp === this.stamps.stamp(this.key(at)) ? slice : undefined;
  }

  /**
   * Writes entries through: `words` replace those of the slice at host offset `at` from entry `first` on. On failure
   * nothing changed. In an image that is being filled they wait for others of the slice, until `settle` at the latest.
   * By its offset, as whoever still holds a slice that the cache let go does not know what was written since.
   */
  write(at: number, first: number, words: Uint32Array, health: Health): void {
    const slice = this.sliceAt(at);
    if (this.filling) this.gather(slice, first * this.words, words);
    else writeWords(this.storage, at, slice.disk, first * this.words, words, health);
    if (slice.live !== slice.disk) slice.live.set(words, first * this.words);
    this.stamps.bump(this.key(at));
    slice.stamp = this.stamps.stamp(this.key(at));
  }

  /** Forgets a table: its cluster begins a new life. In every thread. */
  forget(table: number, clusterSize: number): void {
    for (let at = table; at < table + clusterSize; at += this.sliceBytes) {
      const slice = this.slices.peek(at);
      if (slice !== undefined) this.gathered.delete(slice);
      this.slices.delete(at);
      this.stamps.bump(this.key(at));
    }
    this.last = undefined;
  }

  /** An empty table, which the file has there: it need not be read. */
  begin(table: number, clusterSize: number): void {
    for (let at = table; at < table + clusterSize; at += this.sliceBytes) {
      this.keep(at, new Uint32Array(this.sliceBytes / 4), this.stamps.stamp(this.key(at)));
    }
  }

  /** Writes what waits. */
  settle(): void {
    for (const [slice, { from, to }] of this.gathered) {
      const first = roundDown(from, SECTOR_WORDS);
      const words = slice.disk.subarray(first, Math.min(slice.disk.length, roundUp(to, SECTOR_WORDS)));
      this.storage.write(bigEndianBytes(words), slice.at + first * 4);
      this.gathered.delete(slice);
    }
  }

  clear(): void {
    this.gathered.clear();
    this.slices.clear();
    this.last = undefined;
  }

  private gather(slice: Slice, first: number, words: Uint32Array): void {
    slice.disk.set(words, first);
    const { from, to } = this.gathered.get(slice) ?? { from: first, to: first };
    this.gathered.set(slice, { from: Math.min(from, first), to: Math.max(to, first + words.length) });
  }

  private key(at: number): number {
    return STAMP.firstTable + at / this.sliceBytes;
  }

  private find(at: number): Slice {
    const slice = this.cached(at) ?? this.load(at);
    this.last = slice;
    return slice;
  }

  private load(at: number): Slice {
    const stamp = this.stamps.stamp(this.key(at));
    const bytes = new Uint8Array(this.sliceBytes);
    if (this.storage.read(bytes, at) < bytes.length) {
      throw new ImgfsError('truncated', `${this.storage.name}: the image ends inside the L2 table at ${at}`);
    }
    return this.keep(at, bigEndianWords(bytes), stamp);
  }

  private keep(at: number, words: Uint32Array, stamp: number): Slice {
    // Which one has to go is not ours to say: it may be one that waits.
    if (this.slices.size >= this.slices.max) this.settle();
    const slice = { at, disk: words, live: words, stamp };
    this.overlay?.cover(slice);
    this.slices.set(at, slice);
    return slice;
  }
}
