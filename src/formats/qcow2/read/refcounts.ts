import { bigEndianWords } from '../../../lib/bits.js';
import { corrupt, ImgfsError } from '../../../lib/errors.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import type { Header } from '../header.js';
import { decodeRefcount, REFCOUNT_TABLE_ENTRY_BYTES, refcountBlockOffset } from './layout.js';

/** Upper halves of offsets from here on are negative numbers to QEMU, which cannot read there. */
const NEGATIVE = 2 ** 31;

/** Blocks that are kept: of clusters of 64 KiB, those of 128 GiB of the file. */
const KEPT_BYTES = 4 * 1024 * 1024;

/**
 * Reads refcounts of any width. Keeps the table (at most 8 MiB, checked with the header) and some blocks: whoever needs
 * many refcounts asks in order, or nearly.
 */
export class Refcounts {
  /** Refcounts per block. */
  readonly perBlock: number;
  private table: Uint32Array | undefined;
  private readonly blocks = new Map<number, Buffer | undefined>();
  /** The one asked for last. */
  private latest: Buffer | undefined;
  private latestIndex = -1;

  constructor(
    private readonly storage: Storage,
    private readonly header: Header,
  ) {
    this.perBlock = (header.clusterSize * 8) / header.refcountBits;
  }

  /** The refcount of host cluster `cluster`; 0 past the end of the table. Throws `corrupt`, `truncated`. */
  at(cluster: number): number {
    const index = Math.floor(cluster / this.perBlock);
    const block = this.blockOf(index);
    return block === undefined ? 0 : decodeRefcount(block, cluster - index * this.perBlock, this.header.refcountBits);
  }

  /** How many of the first `clusters` host clusters are in use; counting stops at `enough`. */
  used(clusters: number, enough: number): number {
    let count = 0;
    // The table may end long before a sparse file does.
    const counted = Math.min(clusters, this.perBlock * (this.header.refcountTableBytes / REFCOUNT_TABLE_ENTRY_BYTES));
    for (let first = 0; first < counted && count < enough; first += this.perBlock) {
      const block = this.blockOf(first / this.perBlock);
      if (block === undefined) continue;
      const entries = Math.min(this.perBlock, clusters - first);
      for (let n = 0; n < entries && count < enough; n++) {
        if (decodeRefcount(block, n, this.header.refcountBits) !== 0) count++;
      }
    }
    return count;
  }

  /** A refcount block, or undefined where none is allocated. */
  private blockOf(index: number): Buffer | undefined {
    if (index === this.latestIndex) return this.latest;
    const { blocks } = this;
    if (!blocks.has(index)) {
      const read = this.readBlock(index);
      if ((blocks.size + 1) * this.header.clusterSize > KEPT_BYTES) blocks.clear();
      blocks.set(index, read);
    }
    this.latest = blocks.get(index);
    this.latestIndex = index;
    return this.latest;
  }

  private readBlock(index: number): Buffer | undefined {
    this.table ??= this.readTable();
    if (index * 2 >= this.table.length) return undefined;
    const [high, low] = [this.table[index * 2]!, this.table[index * 2 + 1]!];
    const at = refcountBlockOffset(high, low);
    if (at === 0) return undefined;
    // The lower half alone tells, also where the whole is no number: that lies past the end of any file, or is negative.
    if (high >= NEGATIVE || refcountBlockOffset(0, low) % this.header.clusterSize !== 0) {
      throw corrupt(`${this.storage.name}: refcount table entry ${index} does not point to a block`);
    }
    if (Number.isNaN(at)) {
      throw new ImgfsError('truncated', `${this.storage.name}: refcount block ${index} lies beyond 2^53`);
    }
    const block = Buffer.alloc(this.header.clusterSize);
    if (this.storage.read(block, at) < block.length) {
      throw new ImgfsError('truncated', `${this.storage.name}: the image ends inside the refcount block at ${at}`);
    }
    return block;
  }

  private readTable(): Uint32Array {
    const bytes = new Uint8Array(this.header.refcountTableBytes);
    readTable(this.storage, bytes, this.header.refcountTableAt, 'refcount table');
    return bigEndianWords(bytes);
  }
}
