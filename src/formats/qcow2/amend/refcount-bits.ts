import { ImgfsError } from '../../../lib/errors.js';
import { putU64, withRefcountOrder } from '../encode.js';
import { MAX } from '../layout.js';
import { decodeRefcount, encodeRefcount, REFCOUNT_TABLE_ENTRY_BYTES } from '../read/layout.js';
import { cut } from '../write/cut.js';
import { punch } from '../write/punch.js';
import { type ClusterRun, runsOf } from '../write/refcount-book.js';
import { putStart } from '../write/start.js';
import type { Volume } from '../write/volume.js';

/** Throws `unsupported` where a count does not fit the width. */
export function checkRefcountBits({ storage, live, refcounts }: Volume, bits: number): void {
  if (bits >= refcounts.bits) return;
  const { clusterSize } = live.now;
  for (const { first, block } of blocksOf(refcounts)) {
    for (let n = 0; n < refcounts.perBlock; n++) {
      const count = decodeRefcount(block, n, refcounts.bits);
      if (count < 2 ** bits) continue;
      const at = (first + n) * clusterSize;
      throw new ImgfsError(
        'unsupported',
        `${storage.name}: refcount_bits=${bits} cannot count ${count} uses, at ${at}`,
      );
    }
  }
}

/**
 * Gives refcounts another width: all of them are written anew behind the end of the file, in which those that are
 * replaced count as free already, and one write of the header's first sector switches. The volume is of no use after.
 */
export function changeRefcountBits(volume: Volume, bits: number): void {
  const { storage, live, health } = volume;
  volume.settle();
  const before = storage.size();
  let left: readonly ClusterRun[];
  try {
    const { clusterSize, refcountTableAt, refcountTableBytes, extensions, stored } = live.now;
    const { refcounts } = volume;
    const replaced = new Set<number>();
    for (let at = 0; at < refcountTableBytes; at += clusterSize) replaced.add((refcountTableAt + at) / clusterSize);
    for (let n = 0; n < refcounts.capacity; n++) {
      const at = refcounts.blockAt(n);
      if (at !== 0) replaced.add(at / clusterSize);
    }
    const plan = new Plan(volume, bits, replaced, Math.ceil(before / clusterSize));
    storage.resize(plan.end * clusterSize);
    for (const [n, index] of plan.blocks.entries()) {
      storage.write(plan.block(index), (plan.blocksAt + n) * clusterSize);
    }
    storage.write(plan.table(), plan.tableAt * clusterSize);
    const start = putStart(volume, extensions.all, withRefcountOrder(stored, Math.log2(bits)));
    health.barrier(storage);
    const table = {
      refcountTableAt: plan.tableAt * clusterSize,
      refcountTableBytes: plan.tableClusters * clusterSize,
    };
    live.change({ ...start, ...table }, health);
    left = runsOf([...replaced]);
  } catch (error) {
    if (health.sound) cut(storage, before);
    throw error;
  }
  health.barrier(storage);
  punch(storage, left, live.now.clusterSize);
}

/** Where the new counts go, and what they are. */
class Plan {
  /** Numbers of the blocks there are, ascending: those in which anything is counted. */
  readonly blocks: readonly number[];
  readonly blocksAt: number;
  readonly tableAt: number;
  readonly tableClusters: number;
  readonly end: number;
  private readonly perBlock: number;

  constructor(
    private readonly volume: Volume,
    private readonly bits: number,
    private readonly replaced: ReadonlySet<number>,
    fileEnd: number,
  ) {
    const { clusterSize } = volume.live.now;
    const { refcounts } = volume;
    this.perBlock = (clusterSize * 8) / bits;
    const used = new Set<number>();
    let first = fileEnd;
    for (const { first: base, block } of blocksOf(refcounts)) {
      for (let n = 0; n < refcounts.perBlock; n++) {
        if (decodeRefcount(block, n, refcounts.bits) === 0 || replaced.has(base + n)) continue;
        used.add(Math.floor((base + n) / this.perBlock));
        first = Math.max(first, base + n + 1);
      }
    }
    let [table, end] = [0, first];
    // Blocks and table count themselves: grown until they cover what they have become.
    for (let last = -1; end !== last; ) {
      last = end;
      for (let cluster = first; cluster < end; cluster += this.perBlock) used.add(Math.floor(cluster / this.perBlock));
      if (end > first) used.add(Math.floor((end - 1) / this.perBlock));
      const entries = 1 + [...used].reduce((most, index) => Math.max(most, index), 0);
      table = Math.ceil((entries * REFCOUNT_TABLE_ENTRY_BYTES) / clusterSize);
      end = first + used.size + table;
    }
    if (table * clusterSize > MAX.refcountTableBytes) {
      throw new ImgfsError('limit', `${volume.storage.name}: refcounts of ${bits} bits need too large a table`);
    }
    this.blocks = [...used].sort((a, b) => a - b);
    this.blocksAt = first;
    this.tableAt = first + used.size;
    this.tableClusters = table;
    this.end = end;
  }

  block(index: number): Buffer {
    const { refcounts, live } = this.volume;
    const bytes = Buffer.alloc(live.now.clusterSize);
    for (let n = 0; n < this.perBlock; n++) {
      const cluster = index * this.perBlock + n;
      const isOurs = cluster >= this.blocksAt && cluster < this.end;
      const count = isOurs ? 1 : this.replaced.has(cluster) ? 0 : refcounts.at(cluster);
      if (count > 0) encodeRefcount(bytes, n, this.bits, count);
    }
    return bytes;
  }

  table(): Buffer {
    const { clusterSize } = this.volume.live.now;
    const bytes = Buffer.alloc(this.tableClusters * clusterSize);
    for (const [n, index] of this.blocks.entries()) {
      putU64(bytes, index * REFCOUNT_TABLE_ENTRY_BYTES, (this.blocksAt + n) * clusterSize);
    }
    return bytes;
  }
}

/** The blocks there are, with the cluster each begins to count at. */
function* blocksOf(refcounts: Volume['refcounts']): Generator<{ readonly first: number; readonly block: Buffer }> {
  for (let index = 0; index < refcounts.capacity; index++) {
    const block = refcounts.blockBytes(index);
    if (block !== undefined) yield { first: index * refcounts.perBlock, block };
  }
}
