import { LRUCache } from 'lru-cache';
import type { Health } from '../../../image/health.js';
import { rewrite } from '../../../image/rewrite.js';
import type { Stamps } from '../../../image/sharing.js';
import { bigEndianWords, roundDown, roundUp } from '../../../lib/bits.js';
import { corrupt, ImgfsError } from '../../../lib/errors.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import { decodeRefcount, encodeRefcount, refcountBlockOffset } from '../read/layout.js';
import { STAMP } from './cells.js';
import type { LiveHeader } from './live-header.js';

const CACHE_BYTES = 4 * 1024 * 1024;
const SECTOR = 512;

interface Block {
  readonly at: number;
  readonly bytes: Buffer;
  stamp: number;
}

/** A run of host clusters. */
export interface ClusterRun {
  readonly first: number;
  readonly count: number;
}

/** Clusters as runs, in order, each once. */
export function runsOf(clusters: readonly number[]): readonly ClusterRun[] {
  const runs: { first: number; count: number }[] = [];
  for (const cluster of Float64Array.from(clusters).sort()) {
    const last = runs.at(-1);
    const next = last === undefined ? -1 : last.first + last.count;
    if (last !== undefined && cluster === next) last.count++;
    else if (cluster !== next - 1) runs.push({ first: cluster, count: 1 });
  }
  return runs;
}

/** The refcounts of an image that is being written: each change goes to the file at once, whole sectors. */
export class RefcountBook {
  /** Refcounts per block. */
  readonly perBlock: number;
  readonly bits: number;
  private table: Uint32Array | undefined;
  private tableAt = 0;
  private tableStamp = 0;
  private readonly blocks: LRUCache<number, Block>;

  constructor(
    private readonly storage: Storage,
    private readonly live: LiveHeader,
    private readonly stamps: Stamps,
    private readonly health: Health,
  ) {
    const { clusterSize, refcountBits } = live.now;
    this.bits = refcountBits;
    this.perBlock = (clusterSize * 8) / refcountBits;
    this.blocks = new LRUCache({ max: Math.max(4, CACHE_BYTES / clusterSize) });
  }

  /** The refcount of host cluster `cluster`; 0 where no block counts it. Throws `corrupt`, `truncated`. */
  at(cluster: number): number {
    const index = Math.floor(cluster / this.perBlock);
    const block = this.block(index);
    return block === undefined ? 0 : decodeRefcount(block.bytes, cluster - index * this.perBlock, this.bits);
  }

  /**
   * How many clusters from `first` on, at most `count`, can be taken: have a refcount, and it is 0. With `used`, how
   * many cannot; what no block counts is among those, as nothing could be noted of it.
   */
  runLength(first: number, count: number, used = false): number {
    for (let n = 0; n < count; ) {
      const index = Math.floor((first + n) / this.perBlock);
      const block = this.block(index);
      const from = first + n - index * this.perBlock;
      const entries = Math.min(this.perBlock - from, count - n);
      if (block === undefined) {
        if (!used) return n;
        n += entries;
        continue;
      }
      for (let i = 0; i < entries; i++) {
        if ((decodeRefcount(block.bytes, from + i, this.bits) !== 0) !== used) return n + i;
      }
      n += entries;
    }
    return count;
  }

  /** Whether one reference more can be counted of the cluster. */
  hasRoom(cluster: number): boolean {
    return this.at(cluster) < 2 ** Math.min(this.bits, 53) - 1;
  }

  /** Counts one reference more for each cluster. Their blocks exist. */
  raise(run: ClusterRun): void {
    this.change(run, (count) => count + 1);
  }

  /** Counts one reference less for each cluster and returns those nobody uses any more. */
  release(run: ClusterRun): readonly ClusterRun[] {
    const freed: { first: number; count: number }[] = [];
    this.change(run, (count, cluster) => {
      // A count that is 0 already was damaged before; a leak is mended by check, a negative count never.
      if (count > 1) return count - 1;
      const last = freed.at(-1);
      if (count === 1 && last !== undefined && last.first + last.count === cluster) last.count++;
      else if (count === 1) freed.push({ first: cluster, count: 1 });
      return 0;
    });
    return freed;
  }

  /** Blocks the table has room for. */
  get capacity(): number {
    return this.words().length / 2;
  }

  /** Host offset of a block; 0 for none, also past the end of the table. Throws `corrupt`. */
  blockAt(index: number): number {
    const words = this.words();
    if (index * 2 >= words.length) return 0;
    const at = refcountBlockOffset(words[index * 2]!, words[index * 2 + 1]!);
    if (Number.isNaN(at) || at % this.live.now.clusterSize !== 0) {
      throw corrupt(`${this.storage.name}: refcount table entry ${index} does not point to a block`);
    }
    return at;
  }

  /** All of the table, as words; the book's own. */
  words(): Uint32Array {
    const { refcountTableAt: at, refcountTableBytes } = this.live.now;
    const stamp = this.stamps.stamp(STAMP.refcountTable);
    if (this.table !== undefined && at === this.tableAt && stamp === this.tableStamp) return this.table;
    const bytes = new Uint8Array(refcountTableBytes);
    readTable(this.storage, bytes, at, 'refcount table');
    this.blocks.clear();
    this.table = bigEndianWords(bytes);
    this.tableAt = at;
    this.tableStamp = stamp;
    return this.table;
  }

  /** The header names another table now, which holds these words. Other threads read it. */
  adopt(words: Uint32Array): void {
    this.blocks.clear();
    this.table = words;
    this.tableAt = this.live.now.refcountTableAt;
    this.bump(STAMP.refcountTable);
    this.tableStamp = this.stamps.stamp(STAMP.refcountTable);
  }

  /** A whole block as the file holds it, or undefined for none. The book's own. */
  blockBytes(index: number): Buffer | undefined {
    return this.block(index)?.bytes;
  }

  private change(run: ClusterRun, to: (count: number, cluster: number) => number): void {
    const end = run.first + run.count;
    for (let cluster = run.first; cluster < end; ) {
      const index = Math.floor(cluster / this.perBlock);
      const until = Math.min(end, (index + 1) * this.perBlock);
      const block = this.block(index);
      if (block !== undefined) this.changeBlock(block, index * this.perBlock, cluster, until, to);
      else if (to(0, cluster) > 0) throw new Error('no block counts a cluster that is reserved');
      cluster = until;
    }
  }

  private changeBlock(
    block: Block,
    base: number,
    from: number,
    until: number,
    to: (count: number, cluster: number) => number,
  ): void {
    const first = roundDown(Math.floor(((from - base) * this.bits) / 8), SECTOR);
    const last = Math.min(block.bytes.length, roundUp(Math.ceil(((until - base) * this.bits) / 8), SECTOR));
    const old = block.bytes.subarray(first, last);
    const bytes = Buffer.from(old);
    const before = base + (first * 8) / this.bits;
    for (let cluster = from; cluster < until; cluster++) {
      encodeRefcount(
        bytes,
        cluster - before,
        this.bits,
        to(decodeRefcount(bytes, cluster - before, this.bits), cluster),
      );
    }
    rewrite(this.storage, { at: block.at + first, bytes, old }, this.health);
    block.bytes.set(bytes, first);
    this.bump(this.key(block.at));
    block.stamp = this.stamps.stamp(this.key(block.at));
  }

  private bump(key: number): void {
    this.stamps.bump(key);
    this.stamps.bump(STAMP.any);
  }

  private key(at: number): number {
    return STAMP.firstTable + at / this.live.now.clusterSize;
  }

  private block(index: number): Block | undefined {
    const at = this.blockAt(index);
    if (at === 0) return undefined;
    const kept = this.blocks.get(index);
    const stamp = this.stamps.stamp(this.key(at));
    if (kept !== undefined && kept.at === at && kept.stamp === stamp) return kept;
    const bytes = Buffer.alloc(this.live.now.clusterSize);
    if (this.storage.read(bytes, at) < bytes.length) {
      throw new ImgfsError('truncated', `${this.storage.name}: the image ends inside the refcount block at ${at}`);
    }
    const block = { at, bytes, stamp };
    this.blocks.set(index, block);
    return block;
  }
}
