import type { Limits } from '../../../image/limits.js';
import { bigEndianWords } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import { readPadded, readTable, type Storage } from '../../../storage/storage.js';
import { bitmapRanges } from '../bitmaps/directory.js';
import type { Header } from '../header.js';
import {
  allocatedAndZero,
  decodePacked,
  type EntryRules,
  entryOffset,
  hasOffset,
  hasReservedBits,
  isCopied,
  KIND,
  L1_ENTRY_BYTES,
  type PackedPlace,
  REFCOUNT_TABLE_ENTRY_BYTES,
  refcountBlockOffset,
  standardKind,
} from '../read/layout.js';
import { readL1 } from '../read/tables.js';
import { readSnapshots } from '../snapshots.js';
import { Counts } from './counts.js';
import type { Steps } from './steps.js';

/** What a census found besides the counts. */
export interface Findings {
  corruptions: number;
  checkErrors: number;
  allocated: number;
  fragmented: number;
  compressed: number;
}

/**
 * Counts every reference to a host cluster, following each table there is: header, active L1 and those of snapshots,
 * L2 tables, refcount structures, snapshot table, encryption header, bitmaps. Reads only. Work and memory grow with
 * what the tables say, and every table has passed its limit. Findings are told in QEMU's order, a line each. Every
 * table that is followed is a step.
 */
export class Census {
  readonly counts = new Counts();
  readonly findings: Findings = { corruptions: 0, checkErrors: 0, allocated: 0, fragmented: 0, compressed: 0 };
  /** A refcount block that cannot be used where it is: the structure must be built anew to be mended. */
  badBlocks = false;
  /**
   * Something that refers to clusters could not be read. They look unused, so nothing may be mended by these counts:
   * it would give away what is in use.
   */
  incomplete = false;
  /** How many of the corruptions are such blocks. */
  badBlockFindings = 0;
  /** Every cluster counted for the refcount structure itself. */
  readonly refcountClusters: number[] = [];
  /** Indices of the refcount table's entries that point to a usable block, ascending, and where the blocks lie. */
  readonly blocks = new Map<number, number>();
  private readonly rules: EntryRules;
  private readonly fileBytes: number;

  constructor(
    private readonly storage: Storage,
    private readonly header: Header,
    private readonly limits: Limits,
    private readonly told: { readonly tell: (finding: string) => void; readonly steps: Steps },
  ) {
    this.rules = {
      zeroFlag: header.version >= 3 && !header.extended,
      external: header.external,
      clusterMask: header.clusterSize - 1,
    };
    this.fileBytes = storage.size();
  }

  *take(): Generator<number> {
    const { header } = this;
    this.refer(0, header.clusterSize, 'the header');
    const l1 = readL1(this.storage, this.limits, header.l1At, header.l1Entries, header);
    yield* this.level1(l1, header.l1At, true);
    yield* this.snapshots();
    this.refer(header.refcountTableAt, header.refcountTableBytes, 'the refcount table', this.refcountClusters);
    if (header.crypto !== undefined) this.refer(header.crypto.at, header.crypto.bytes, 'the encryption header');
    yield* this.bitmaps();
    yield* this.refcountBlocks();
  }

  /** The L2 table as words, zeros past the end of the file; undefined where the host fails, which is told. */
  table(at: number): Uint32Array | undefined {
    const bytes = new Uint8Array(this.header.clusterSize);
    try {
      readPadded(this.storage, bytes, at);
    } catch (error) {
      this.unread(error, `the L2 table at ${at} cannot be read: `);
      return undefined;
    }
    return bigEndianWords(bytes);
  }

  /** Whether a standard entry, or the first half of an extended one, points to a whole cluster of its own. */
  isPlaced(high: number, low: number): boolean {
    return hasOffset(high, low) && standardKind(high, low, this.rules) !== KIND.compressed;
  }

  private *snapshots(): Generator<number> {
    const { header, storage, limits } = this;
    const stored = readSnapshots(storage, header, limits);
    for (const { snapshot, l1At, l1Entries } of stored) {
      if (l1At % header.clusterSize !== 0) {
        this.corruption(`snapshot ${snapshot.id}: its L1 table at ${l1At} is not aligned`);
        continue;
      }
      try {
        yield* this.level1(readL1(storage, limits, l1At, l1Entries, header), l1At, false);
      } catch (error) {
        this.unread(error, `snapshot ${snapshot.id}: `);
      }
    }
    const end = stored.at(-1)?.end ?? header.snapshotsAt;
    this.refer(header.snapshotsAt, end - header.snapshotsAt, 'the snapshot table');
  }

  private *bitmaps(): Generator<number> {
    try {
      for (const { at, bytes } of bitmapRanges(this.storage, this.header, this.limits)) {
        if (Number.isNaN(at) || at % this.header.clusterSize !== 0) this.corruption(`a bitmap's cluster is misplaced`);
        else this.refer(at, bytes, 'a bitmap');
        yield this.told.steps.part;
      }
    } catch (error) {
      this.unread(error);
    }
  }

  /** Something that refers to clusters cannot be had: because the host fails, or because it is damaged. */
  private unread(error: unknown, where = ''): void {
    if (!(error instanceof ImgfsError)) throw error;
    this.incomplete = true;
    if (error.reason !== 'io') this.corruption(`${where}${error.message}`);
    else {
      this.findings.checkErrors++;
      this.told.tell(`ERROR: ${where}${error.message}`);
    }
  }

  private *level1(l1: Uint32Array, at: number, active: boolean): Generator<number> {
    const { clusterSize } = this.header;
    if (l1.length > 0) this.refer(at, (l1.length / 2) * L1_ENTRY_BYTES, 'an L1 table');
    for (let i = 0; i < l1.length; i += 2) {
      this.told.steps.step();
      const [high, low] = [l1[i]!, l1[i + 1]!];
      // Not "has no offset": an entry that is only a flag points to the header, and that is wrong.
      if (high === 0 && low === 0) continue;
      if (hasReservedBits(high, low, 'l1')) this.corruption(`L1 entry ${i / 2} has reserved bits set`);
      const table = entryOffset(high, low);
      // The lower half alone tells, also where the whole is no number.
      if (entryOffset(0, low) % clusterSize !== 0)
        this.corruption(`L1 entry ${i / 2} is corrupt: its L2 table is not aligned`);
      if (Number.isNaN(table)) this.corruption(`L1 entry ${i / 2} points beyond 2^53`);
      else if (this.refer(table, clusterSize, `L1 entry ${i / 2}`)) this.level2(table, active);
      yield this.told.steps.part;
    }
  }

  private level2(at: number, active: boolean): void {
    const table = this.table(at);
    if (table === undefined) return;
    const step = this.header.extended ? 4 : 2;
    let next = 0;
    for (let i = 0; i < table.length; i += step) {
      const [high, low] = [table[i]!, table[i + 1]!];
      const kind = standardKind(high, low, this.rules);
      if (this.header.extended) this.subclusters(at, i, table);
      if (kind === KIND.compressed) {
        this.compressed(high, low, active);
        continue;
      }
      const reserved = hasReservedBits(high, low, 'l2');
      if (reserved) this.corruption(`L2 table at ${at}, entry ${i / step}: reserved bits set`);
      // The first cluster of an external data file is at 0.
      if (!hasOffset(high, low) && kind !== KIND.data) continue;
      const count = kind === KIND.data && !reserved ? this.run(table, i, step) : 1;
      next = this.placed(high, low, count, next, active);
      i += (count - 1) * step;
    }
  }

  /**
   * How many entries, from one for data on, differ from it only by leading to the clusters that follow in the file, all
   * of them inside it: what is right of the first is right of all. At least 1.
   */
  private run(table: Uint32Array, i: number, step: number): number {
    const { clusterSize, extended } = this.header;
    const [high, low] = [table[i]!, table[i + 1]!];
    const inside = Math.floor((this.fileBytes - entryOffset(high, low)) / clusterSize);
    let count = 1;
    for (let n = i + step; n < table.length && count < inside; n += step) {
      if (table[n] !== high || table[n + 1] !== low + count * clusterSize) break;
      if (extended && allocatedAndZero(table[n + 2]!, table[n + 3]!)) break;
      count++;
    }
    return count;
  }

  private subclusters(at: number, i: number, table: Uint32Array): void {
    if (!allocatedAndZero(table[i + 2]!, table[i + 3]!)) return;
    this.corruption(`L2 table at ${at}, entry ${i / 4}: subclusters that are allocated and zero at once`);
  }

  private compressed(high: number, low: number, active: boolean): void {
    if (isCopied(high)) this.corruption('a compressed cluster is marked as copied, which must never be');
    const place = this.packed(high, low);
    if (place !== undefined) this.refer(place.offset, place.length, 'a compressed cluster');
    if (!active) return;
    this.findings.compressed++;
    this.findings.allocated++;
    // Compressed clusters are fragmented by nature.
    this.findings.fragmented++;
  }

  private packed(high: number, low: number): PackedPlace | undefined {
    try {
      return decodePacked(high, low, this.header.clusterBits, 'the offset of a compressed cluster');
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      this.corruption(error.message);
      return undefined;
    }
  }

  /** A run of clusters. Returns the offset at which the next one would continue it. */
  private placed(high: number, low: number, count: number, expected: number, active: boolean): number {
    const { clusterSize, external } = this.header;
    const offset = entryOffset(high, low);
    if (active) {
      this.findings.allocated += count;
      if (expected !== 0 && offset !== expected) this.findings.fragmented++;
    }
    const beyond = Number.isNaN(offset);
    const where = beyond ? 'beyond 2^53' : `at ${offset}`;
    // The lower half alone tells, also where the whole is no number.
    if (entryOffset(0, low) % clusterSize !== 0)
      this.corruption(`the cluster ${where} is not aligned; its L2 entry is corrupt`);
    if (beyond) this.corruption('an L2 entry points beyond 2^53');
    else if (!external) this.refer(offset, count * clusterSize, 'a cluster');
    return offset + count * clusterSize;
  }

  /** Each block counts as a cluster in use, and exactly one table entry may point to it. */
  private *refcountBlocks(): Generator<number> {
    const { header, storage } = this;
    const bytes = new Uint8Array(header.refcountTableBytes);
    readTable(storage, bytes, header.refcountTableAt, 'refcount table');
    const table = bigEndianWords(bytes);
    const entries = table.length / (REFCOUNT_TABLE_ENTRY_BYTES / 4);
    for (let i = 0; i < entries; i++) {
      const at = refcountBlockOffset(table[i * 2]!, table[i * 2 + 1]!);
      if (at === 0) continue;
      if (refcountBlockOffset(0, table[i * 2 + 1]!) % header.clusterSize !== 0) {
        this.badBlock(`refcount block ${i} is not aligned; the refcount table entry is corrupt`);
      } else if (Number.isNaN(at) || at >= this.fileBytes) {
        this.badBlock(`refcount block ${i} is outside the image`);
      } else {
        this.refer(at, header.clusterSize, `refcount block ${i}`, this.refcountClusters);
        const count = this.counts.at(at / header.clusterSize);
        if (count !== 1) this.badBlock(`refcount block ${i} is referred to ${count} times`);
        this.blocks.set(i, at);
      }
      yield this.told.steps.part;
    }
  }

  private badBlock(finding: string): void {
    this.badBlocks = true;
    this.badBlockFindings++;
    this.corruption(finding);
  }

  /** Counts a whole range, by all clusters it touches, and notes them. False where it lies past the end by a cluster or more. */
  private refer(at: number, bytes: number, what: string, noted?: number[]): boolean {
    if (bytes <= 0) return true;
    const { clusterSize } = this.header;
    // The last cluster of a file may be cut short.
    if (at + bytes - this.fileBytes >= clusterSize) {
      this.corruption(`${what} lies at ${at}, past the end of the file`);
      return false;
    }
    const first = Math.floor(at / clusterSize);
    const count = Math.floor((at + bytes - 1) / clusterSize) - first + 1;
    this.counts.increment(first, count);
    for (let n = 0; noted !== undefined && n < count; n++) noted.push(first + n);
    return true;
  }

  private corruption(finding: string): void {
    this.findings.corruptions++;
    this.told.tell(`ERROR: ${finding}`);
  }
}
