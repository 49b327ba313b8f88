import type { BitmapBits, GuestRange } from '../../../image/bitmaps.js';
import type { Limits } from '../../../image/limits.js';
import { bigEndianBytes, bitAt } from '../../../lib/bits.js';
import { corrupt, ImgfsError } from '../../../lib/errors.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import type { Header } from '../header.js';
import { entryOffset, hasOffset } from '../read/layout.js';
import type { Transaction } from '../write/transaction.js';
import type { Volume } from '../write/volume.js';
import { type BitmapEntry, readBitmapTable } from './directory.js';

/** What QEMU takes of one bitmap. */
const MAX_BYTES = 512 * 1024 * 1024;
/** A byte of which every bit is set. */
const ALL_SET = 255;

/** The bits of one bitmap: read a cluster at a time, changed in memory, written by a transaction. */
export class BitmapContent implements BitmapBits {
  /** The table as stored, nothing for a new bitmap; and as it shall be, but for changed clusters. */
  private readonly old: Uint32Array;
  private readonly words: Uint32Array;
  private readonly changed = new Map<number, Buffer>();
  private readonly clusterSize: number;
  /** Whether there is anything to write. */
  isChanged: boolean;

  /** Without `entry` a new one, of zeros. Throws `corrupt`, `truncated`, `limit`. */
  constructor(
    private readonly storage: Storage,
    header: Header,
    private readonly limits: Limits,
    readonly name: string,
    private readonly granularity: number,
    entry: BitmapEntry | undefined,
  ) {
    const { clusterSize, size } = header;
    this.size = size;
    this.clusterSize = clusterSize;
    const clusters = Math.ceil(Math.ceil(Math.ceil(size / granularity) / 8) / clusterSize);
    if (clusters * clusterSize > MAX_BYTES) {
      throw new ImgfsError('limit', `${storage.name}: bitmap "${name}" would need ${clusters * clusterSize} bytes`, {
        hint: 'a larger granularity needs less',
      });
    }
    if (entry !== undefined && entry.tableEntries !== clusters) {
      throw corrupt(`${storage.name}: the table of bitmap "${name}" does not fit the disk`);
    }
    this.old = entry === undefined ? new Uint32Array() : readBitmapTable(storage, header, limits, entry);
    this.words = new Uint32Array(clusters * 2);
    this.words.set(this.old);
    this.isChanged = entry === undefined;
  }

  readonly size: number;

  get tableEntries(): number {
    return this.words.length / 2;
  }

  clear(): void {
    this.words.fill(0);
    this.changed.clear();
    this.isChanged = true;
  }

  /** Says that all of these ranges have changed. Throws `limit` where that touches more than is kept in memory. */
  merge(ranges: Iterable<GuestRange>): void {
    this.isChanged = true;
    for (const { at, length } of ranges) {
      this.set(Math.floor(at / this.granularity), Math.ceil((at + length) / this.granularity));
    }
  }

  *ranges(): Generator<GuestRange> {
    let from = -1;
    const bits = Math.ceil(this.size / this.granularity);
    const perCluster = this.clusterSize * 8;
    for (let n = 0; n < this.tableEntries; n++) {
      const bytes = this.cluster(n);
      const first = n * perCluster;
      const end = Math.min(bits, first + perCluster);
      for (let bit = first; bit < end; bit++) {
        const byte = bytes?.[Math.floor((bit - first) / 8)] ?? 0;
        if (byte === 0 && from < 0) {
          // Nothing in this byte, or in all of the cluster.
          bit = bytes === undefined ? end - 1 : bit - (bit % 8) + 7;
        } else if (bitAt(byte, bit % 8)) {
          if (from < 0) from = bit;
        } else if (from >= 0) {
          yield this.range(from, bit);
          from = -1;
        }
      }
    }
    if (from >= 0) yield this.range(from, bits);
  }

  /** Writes what is changed, gives up what it replaces, and returns where the new table lies. */
  put(change: Transaction, entry: BitmapEntry | undefined): number {
    const next = this.words.slice();
    for (const [n, bytes] of this.changed) {
      const at = bytes.every((byte) => byte === 0) ? 0 : change.put(bytes);
      next[n * 2] = Math.floor(at / 2 ** 32);
      next[n * 2 + 1] = at % 2 ** 32;
    }
    for (let i = 0; i < this.old.length; i += 2) {
      if (this.old[i] !== next[i] || this.old[i + 1] !== next[i + 1]) giveUp(change, this.old, i, this.clusterSize);
    }
    if (entry !== undefined) change.addTable(entry.tableAt, this.old.length * 4, -1);
    return change.put(bigEndianBytes(next));
  }

  private range(from: number, to: number): GuestRange {
    const at = from * this.granularity;
    return { at, length: Math.min(this.size, to * this.granularity) - at };
  }

  private set(from: number, to: number): void {
    const perCluster = this.clusterSize * 8;
    for (let bit = from; bit < to; ) {
      const n = Math.floor(bit / perCluster);
      const bytes = this.own(n);
      const end = Math.min(to, (n + 1) * perCluster) - n * perCluster;
      for (let here = bit - n * perCluster; here < end; ) {
        const byte = Math.floor(here / 8);
        if (here % 8 === 0 && end - here >= 8) {
          bytes[byte] = ALL_SET;
          here += 8;
        } else {
          if (!bitAt(bytes[byte]!, here % 8)) bytes[byte]! += 2 ** (here % 8);
          here++;
        }
      }
      bit = n * perCluster + end;
    }
  }

  /** A cluster of bits; undefined for one of zeros. */
  private cluster(n: number): Buffer | undefined {
    const changed = this.changed.get(n);
    if (changed !== undefined) return changed;
    const [high, low] = [this.words[n * 2]!, this.words[n * 2 + 1]!];
    if (!hasOffset(high, low)) return low === 1 ? Buffer.alloc(this.clusterSize, ALL_SET) : undefined;
    const at = entryOffset(high, low);
    if (Number.isNaN(at) || at % this.clusterSize !== 0) {
      throw corrupt(`${this.storage.name}: bitmap "${this.name}" has misplaced bits`);
    }
    const bytes = Buffer.alloc(this.clusterSize);
    readTable(this.storage, bytes, at, 'bitmap');
    return bytes;
  }

  private own(n: number): Buffer {
    let bytes = this.changed.get(n);
    if (bytes === undefined) {
      if ((this.changed.size + 1) * this.clusterSize > this.limits.tableBytes) {
        throw new ImgfsError('limit', `${this.storage.name}: too much of bitmap "${this.name}" changes at once`);
      }
      bytes = this.cluster(n) ?? Buffer.alloc(this.clusterSize);
      this.changed.set(n, bytes);
    }
    return bytes;
  }
}

/** Gives up all of a bitmap, whatever its bits say. */
export function removeBitmap({ storage, live, limits }: Volume, change: Transaction, entry: BitmapEntry): void {
  const words = readBitmapTable(storage, live.now, limits, entry);
  for (let i = 0; i < words.length; i += 2) giveUp(change, words, i, live.now.clusterSize);
  change.addTable(entry.tableAt, words.length * 4, -1);
}

function giveUp(change: Transaction, words: Uint32Array, i: number, clusterSize: number): void {
  const [high, low] = [words[i]!, words[i + 1]!];
  if (hasOffset(high, low)) change.add(entryOffset(high, low) / clusterSize, -1);
}
