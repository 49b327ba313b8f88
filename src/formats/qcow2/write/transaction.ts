import type { Health } from '../../../image/health.js';
import { bigEndianBytes } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import type { HeaderChanges } from '../encode.js';
import { MAX } from '../layout.js';
import { decodeRefcount, encodeRefcount, L1_ENTRY_BYTES, REFCOUNT_TABLE_ENTRY_BYTES } from '../read/layout.js';
import type { ActiveL1, L2Cache } from '../read/tables.js';
import { CELL } from './cells.js';
import { cut } from './cut.js';
import type { Guard } from './guard.js';
import type { LiveHeader } from './live-header.js';
import { punch } from './punch.js';
import { type ClusterRun, type RefcountBook, runsOf } from './refcount-book.js';

/** What a change of an image's structure needs of it. */
export interface Changing {
  readonly storage: Storage;
  readonly live: LiveHeader;
  readonly refcounts: RefcountBook;
  readonly guard: Guard;
  readonly l1: ActiveL1;
  readonly l2: L2Cache;
  readonly cells: Float64Array;
  readonly health: Health;
}

/**
 * Makes a change of structure all or nothing. `make` prepares it: takes new clusters, writes tables into them, counts
 * references up and down, and returns the header fields that change. None of that touches anything the image refers
 * to: new tables and changed refcount blocks go behind the end of the file. When all is durable one write of one
 * sector switches header, refcount table, L1 table and snapshot list together, and only after the next barrier the
 * replaced clusters are anybody's. So at no point of a crash do refcounts and COPIED flags contradict each other,
 * which no order of writes in place could promise; and nothing leaks.
 *
 * Nothing may be pending, waiting to be freed or reserved when references of guest data are counted.
 */
export function transact(parts: Changing, make: (change: Transaction) => HeaderChanges): void {
  parts.health.assertSound();
  const before = parts.storage.size();
  const change = new Transaction(parts, Math.ceil(before / parts.live.now.clusterSize));
  try {
    change.switch(make(change));
  } catch (error) {
    // Everything new lies behind the old end. Should the host not cut it off, it is unused and found again later.
    if (parts.health.sound) cut(parts.storage, before);
    throw error;
  }
  change.punch();
}

/** A change in the making. */
export class Transaction {
  /** Refcount blocks as they shall be, by number. */
  private readonly blocks = new Map<number, Buffer>();
  /** Clusters whose count reached 0 on the way. */
  private readonly dropped: number[] = [];
  private readonly most: number;
  private l1: Uint32Array | undefined;

  constructor(
    private readonly parts: Changing,
    private next: number,
  ) {
    this.most = Math.min(2 ** parts.refcounts.bits - 1, Number.MAX_SAFE_INTEGER);
  }

  /** `count` clusters in a row behind everything, counted once. Returns the first. */
  take(count: number): number {
    let first = this.next;
    for (let n = 0; n < count; ) {
      if (this.count(first + n) === 0) n++;
      else {
        first += n + 1;
        n = 0;
      }
    }
    this.next = first + count;
    for (let n = 0; n < count; n++) this.set(first + n, 1);
    return first;
  }

  /** Takes clusters for a table, writes it into them, zeros behind it, and returns where it is. */
  put(bytes: Uint8Array): number {
    const { clusterSize } = this.parts.live.now;
    const clusters = Math.max(1, Math.ceil(bytes.length / clusterSize));
    const at = this.take(clusters) * clusterSize;
    const whole = Buffer.alloc(clusters * clusterSize);
    whole.set(bytes);
    this.parts.storage.write(whole, at);
    for (let table = at; table < at + whole.length; table += clusterSize) this.parts.l2.forget(table, clusterSize);
    return at;
  }

  /** Puts a new active L1 table and gives up the old one. Returns what the header must say then. */
  putL1(words: Uint32Array): HeaderChanges {
    const { l1At, l1Entries } = this.parts.live.now;
    this.addTable(l1At, l1Entries * L1_ENTRY_BYTES, -1);
    this.l1 = words;
    return { l1At: this.put(bigEndianBytes(words)), l1Entries: words.length / 2 };
  }

  count(cluster: number): number {
    const { refcounts } = this.parts;
    const index = Math.floor(cluster / refcounts.perBlock);
    const block = this.blocks.get(index) ?? refcounts.blockBytes(index);
    return block === undefined ? 0 : decodeRefcount(block, cluster - index * refcounts.perBlock, refcounts.bits);
  }

  /** Counts `by` references more (1) or less (-1) of a cluster in use. Throws `limit` where they do not fit. */
  add(cluster: number, by: 1 | -1): void {
    const { refcounts, storage } = this.parts;
    const count = this.count(cluster);
    if (count === 0 && by < 0) return;
    if (count === 0) {
      throw new ImgfsError('corrupt', `${storage.name}: cluster ${cluster} is in use and counts as free`, {
        hint: 'repair the image first',
      });
    }
    if (by > 0 && count >= this.most) {
      const held = `all that ${refcounts.bits}-bit refcounts hold`;
      throw new ImgfsError('limit', `${storage.name}: a cluster has ${count} references, ${held}`);
    }
    this.set(cluster, count + by);
    if (count + by === 0) this.dropped.push(cluster);
  }

  /** Counts every cluster of a table of `bytes` bytes. */
  addTable(at: number, bytes: number, by: 1 | -1): void {
    const { clusterSize } = this.parts.live.now;
    for (let here = at; here < at + bytes; here += clusterSize) this.add(here / clusterSize, by);
  }

  /** Writes the refcounts, then switches. */
  switch(changes: HeaderChanges): void {
    const { storage, live, health, refcounts, guard, cells } = this.parts;
    const { clusterSize } = live.now;
    const places = new Map<number, number>();
    const table = this.place(places);
    if (storage.size() < this.next * clusterSize) storage.resize(this.next * clusterSize);
    const words = new Uint32Array((table.count * clusterSize) / 4);
    words.set(refcounts.words());
    for (const [index, cluster] of places) {
      const at = cluster * clusterSize;
      words[index * 2] = Math.floor(at / 2 ** 32);
      words[index * 2 + 1] = at % 2 ** 32;
      storage.write(this.block(index), at);
    }
    storage.write(bigEndianBytes(words), table.first * clusterSize);
    health.barrier(storage);
    const refcountTable = {
      refcountTableAt: table.first * clusterSize,
      refcountTableBytes: table.count * clusterSize,
    };
    live.change({ ...changes, ...refcountTable }, health);
    // From here on the new state is what the file says: nothing may be left to be read that could fail.
    refcounts.adopt(words);
    if (this.l1 !== undefined) this.parts.l1.adopt(this.l1, live.now);
    guard.forget();
    health.barrier(storage);
    const lowest = this.dropped.reduce((least, cluster) => Math.min(least, cluster), Number.POSITIVE_INFINITY);
    cells[CELL.freeFrom] = Math.min(cells[CELL.freeFrom]!, lowest);
  }

  /** Gives the host what nobody uses any more. After the switch: before, the old state may come back. */
  punch(): void {
    const { storage, live } = this.parts;
    const { clusterSize } = live.now;
    punch(storage, runsOf(this.dropped.filter((cluster) => this.count(cluster) === 0)), clusterSize);
  }

  /**
   * Finds places for every changed refcount block and for the table, none where an old one lies. Placing one may
   * change another (its own count is in one of them), so this goes on until nothing is left.
   */
  private place(places: Map<number, number>): ClusterRun {
    const { refcounts, live } = this.parts;
    const { clusterSize, refcountTableAt, refcountTableBytes } = live.now;
    this.addTable(refcountTableAt, refcountTableBytes, -1);
    let table: ClusterRun | undefined;
    for (;;) {
      const open = [...this.blocks.keys()].filter((index) => !places.has(index));
      if (open.length > 0) {
        const first = this.take(open.length);
        open.forEach((index, n) => {
          places.set(index, first + n);
          const old = refcounts.blockAt(index);
          if (old !== 0) this.add(old / clusterSize, -1);
        });
        continue;
      }
      const entries = Math.max(refcounts.capacity, 1 + this.lastBlock());
      const count = Math.ceil((entries * REFCOUNT_TABLE_ENTRY_BYTES) / clusterSize);
      if (table !== undefined && table.count >= count) return table;
      if (count * clusterSize > MAX.refcountTableBytes) {
        throw new ImgfsError('no-space', `${this.parts.storage.name}: the image cannot grow any further`);
      }
      if (table !== undefined) this.addTable(table.first * clusterSize, table.count * clusterSize, -1);
      table = { first: this.take(count), count };
    }
  }

  private set(cluster: number, count: number): void {
    const { perBlock, bits } = this.parts.refcounts;
    const index = Math.floor(cluster / perBlock);
    encodeRefcount(this.block(index), cluster - index * perBlock, bits, count);
  }

  private lastBlock(): number {
    let last = 0;
    for (const index of this.blocks.keys()) last = Math.max(last, index);
    return last;
  }

  private block(index: number): Buffer {
    const { refcounts, live } = this.parts;
    let block = this.blocks.get(index);
    if (block === undefined) {
      const old = refcounts.blockBytes(index);
      block = old === undefined ? Buffer.alloc(live.now.clusterSize) : Buffer.from(old);
      this.blocks.set(index, block);
    }
    return block;
  }
}
