import { corrupt } from '../../../lib/errors.js';
import type { Header } from '../header.js';
import { SUBCLUSTERS } from '../layout.js';
import {
  decodePacked,
  type EntryRules,
  entryOffset,
  extendedKind,
  hasOffset,
  isCopied,
  KIND,
  type Kind,
  type PackedPlace,
  standardKind,
  storesAll,
  wellPlaced,
} from './layout.js';
import type { L1, L2Cache } from './tables.js';

/** How many empty L1 entries one answer may skip: enough for terabytes, little enough to stay in microseconds. */
const MAX_EMPTY_TABLES = 16_384;

/** How L2 entries of the image are to be read. */
export function rulesOf(header: Header): EntryRules {
  return {
    zeroFlag: header.version >= 3 && !header.extended,
    external: header.external,
    clusterMask: header.clusterSize - 1,
  };
}

/**
 * Finds what a guest range is mapped to: L1, then L2, then as many following entries as continue the answer.
 *
 * The answer is left in the public fields and is good until the next `find`: this runs for every read, and must not
 * allocate.
 */
export class Lookup {
  kind: Kind = KIND.hole;
  /** Guest bytes the answer holds for; at least 1. */
  length = 0;
  /** Host offset, for the kinds that have one (`data` and `...Allocated`). */
  offset = 0;
  /** Guest bytes from the start of the cluster to the place asked for. */
  within = 0;
  private high = 0;
  private low = 0;
  private readonly rules: EntryRules;
  private readonly subclusterSize: number;

  constructor(
    private readonly name: string,
    private readonly header: Header,
    private readonly l1: L1,
    private readonly l2: L2Cache,
    /** Whether an answer ends where ownership changes: what a writer needs, and a reader is better off without. */
    private readonly tellsOwner = false,
  ) {
    this.rules = rulesOf(header);
    this.subclusterSize = header.clusterSize / SUBCLUSTERS;
  }

  /** Looks up `at`, for at most `length` bytes. Throws `corrupt` or `truncated` when exactly this place is damaged. */
  find(at: number, length: number): void {
    const { tableSpan, clusterSize } = this.header;
    const table = Math.floor(at / tableSpan);
    const host = this.tableAt(table);
    const inTable = at - table * tableSpan;
    if (host === 0) {
      this.emptyTables(table, tableSpan - inTable, length);
      return;
    }
    const index = Math.floor(inTable / clusterSize);
    const slice = this.l2.slice(host, index).live;
    const first = index % this.l2.entries;
    this.within = inTable - index * clusterSize;
    if (this.header.extended) this.subclusterRun(slice, first, length);
    else this.clusterRun(slice, first, length);
    if (this.length > length) this.length = length;
    if (this.kind === KIND.bad) throw corrupt(`${this.name}: the L2 entry for guest offset ${at} is invalid`);
    if (this.header.external) this.checkExternal(at);
  }

  /** Whether nothing else refers to the host space just found. A data file belongs to one image. */
  get owned(): boolean {
    return isCopied(this.high) || this.header.external;
  }

  /** Where the compressed bytes of the cluster just found lie. Throws `corrupt` past 2^53. */
  packed(): PackedPlace {
    const what = `${this.name}: the offset of a compressed cluster`;
    return decodePacked(this.high, this.low, this.header.clusterBits, what);
  }

  /** Host offset of an L2 table; 0 for none. A snapshot's L1 may be shorter than its disk: the rest is empty. */
  private tableAt(index: number): number {
    const { words } = this.l1;
    if (index * 2 >= words.length) return 0;
    const high = words[index * 2]!;
    const low = words[index * 2 + 1]!;
    if (!hasOffset(high, low)) return 0;
    if (!wellPlaced(high, low, this.rules.clusterMask)) {
      throw corrupt(`${this.name}: L1 entry ${index} does not point to an L2 table`);
    }
    return entryOffset(high, low);
  }

  private emptyTables(table: number, rest: number, length: number): void {
    let covered = rest;
    let index = table + 1;
    const { words } = this.l1;
    const tables = words.length / 2;
    const last = Math.min(tables, index + MAX_EMPTY_TABLES);
    while (covered < length && index < last && !hasOffset(words[index * 2]!, words[index * 2 + 1]!)) {
      covered += this.header.tableSpan;
      index++;
    }
    this.kind = KIND.hole;
    this.length = index >= tables ? length : Math.min(covered, length);
  }

  private clusterRun(slice: Uint32Array, first: number, length: number): void {
    const { clusterSize } = this.header;
    const high = slice[first * 2]!;
    const low = slice[first * 2 + 1]!;
    const kind = standardKind(high, low, this.rules);
    const host = entryOffset(high, low);
    this.kind = kind;
    this.offset = host + this.within;
    this.high = high;
    this.low = low;
    // Counted in words, which are small numbers: those of bytes would be made anew for each of a million entries.
    const last = Math.min(slice.length, 2 * (first + Math.ceil((this.within + length) / clusterSize)));
    let i = first * 2 + 2;
    if (kind !== KIND.compressed) {
      const placed = kind === KIND.data || kind === KIND.zeroAllocated;
      for (; i < last; i += 2) {
        if (!placed && slice[i] === high && slice[i + 1] === low) continue;
        if (standardKind(slice[i]!, slice[i + 1]!, this.rules) !== kind) break;
        if (placed && entryOffset(slice[i]!, slice[i + 1]!) !== host + (i / 2 - first) * clusterSize) break;
        if (this.tellsOwner && isCopied(slice[i]!) !== isCopied(high)) break;
      }
    }
    this.length = (i / 2 - first) * clusterSize - this.within;
  }

  private subclusterRun(slice: Uint32Array, first: number, length: number): void {
    const { clusterSize } = this.header;
    let i = first * 4;
    let n = Math.floor(this.within / this.subclusterSize);
    const kind = this.subclusterKind(slice, i, n);
    this.kind = kind;
    this.high = slice[i]!;
    this.low = slice[i + 1]!;
    let host = entryOffset(this.high, this.low);
    this.offset = host + this.within;
    if (kind === KIND.compressed) {
      this.length = clusterSize - this.within;
      return;
    }
    const placed = kind === KIND.data || kind === KIND.zeroAllocated || kind === KIND.holeAllocated;
    let covered = (n + 1) * this.subclusterSize - this.within;
    while (covered < length) {
      n++;
      if (n === SUBCLUSTERS) {
        n = 0;
        i += 4;
        host += clusterSize;
        if (i >= slice.length || (placed && entryOffset(slice[i]!, slice[i + 1]!) !== host)) break;
        if (this.tellsOwner && isCopied(slice[i]!) !== isCopied(this.high)) break;
        if (kind === KIND.data && storesAll(slice[i]!, slice[i + 1]!, slice[i + 2]!, slice[i + 3]!, this.rules)) {
          covered += clusterSize;
          n = SUBCLUSTERS - 1;
          continue;
        }
      }
      if (this.subclusterKind(slice, i, n) !== kind) break;
      covered += this.subclusterSize;
    }
    this.length = covered;
  }

  private subclusterKind(slice: Uint32Array, i: number, n: number): Kind {
    return extendedKind(slice[i]!, slice[i + 1]!, slice[i + 2]!, slice[i + 3]!, n, this.rules);
  }

  /** An external data file holds every cluster at its guest offset; anything else is a forged entry. */
  private checkExternal(at: number): void {
    const { kind } = this;
    if (kind === KIND.hole || kind === KIND.zero || this.offset === at) return;
    throw corrupt(`${this.name}: the L2 entry for guest offset ${at} points elsewhere in the data file`);
  }
}
