import type { Limits } from '../../../image/limits.js';
import { BitPages } from '../../../lib/bits.js';
import { corrupt, ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { bitmapRanges } from '../bitmaps/directory.js';
import { entryOffset, L1_ENTRY_BYTES } from '../read/layout.js';
import type { L1 } from '../read/tables.js';
import { readSnapshots, snapshotTableBytes } from '../snapshots.js';
import type { LiveHeader } from './live-header.js';
import type { RefcountBook } from './refcount-book.js';

/**
 * The last defence of a damaged image: knows the clusters that hold tables, and refuses a write of guest data that
 * would land on one: whoever asked then ends the writing of this image.
 */
export class Guard {
  private known: BitPages | undefined;
  private readonly clusterSize: number;

  constructor(
    private readonly storage: Storage,
    private readonly live: LiveHeader,
    private readonly l1: L1,
    private readonly refcounts: RefcountBook,
    private readonly limits: Limits,
  ) {
    this.clusterSize = live.now.clusterSize;
  }

  /** Throws `corrupt` where a table lies in the range. */
  check(storage: Storage, offset: number, length: number): void {
    if (storage !== this.storage) return;
    const known = this.tables();
    const last = Math.floor((offset + length - 1) / this.clusterSize);
    for (let cluster = Math.floor(offset / this.clusterSize); cluster <= last; cluster++) {
      if (!known.has(cluster)) continue;
      throw corrupt(`${storage.name}: a write would have landed on a table, at ${cluster * this.clusterSize}`);
    }
  }

  /** Clusters from `offset` on hold tables from now on. */
  add(offset: number, length = this.clusterSize): void {
    if (this.known !== undefined) mark(this.known, offset, length, this.clusterSize);
  }

  remove(offset: number): void {
    this.known?.delete(offset / this.clusterSize);
  }

  /** Tables moved or another thread changed them: look again. */
  forget(): void {
    this.known = undefined;
  }

  private tables(): BitPages {
    this.known ??= this.collect();
    return this.known;
  }

  private collect(): BitPages {
    const { clusterSize } = this;
    const header = this.live.now;
    const found = new BitPages();
    const add = (offset: number, length: number): void => mark(found, offset, length, clusterSize);
    add(0, clusterSize);
    add(header.l1At, header.l1Entries * L1_ENTRY_BYTES);
    add(header.refcountTableAt, header.refcountTableBytes);
    for (let n = 0; n < this.refcounts.capacity; n++) {
      const at = this.refcounts.blockAt(n);
      if (at !== 0) add(at, clusterSize);
    }
    const { words } = this.l1;
    for (let i = 0; i < words.length; i += 2) {
      const at = entryOffset(words[i]!, words[i + 1]!);
      if (at > 0) add(at, clusterSize);
    }
    const snapshots = readSnapshots(this.storage, header, this.limits);
    add(header.snapshotsAt, snapshotTableBytes(snapshots));
    for (const { l1At, l1Entries } of snapshots) add(l1At, l1Entries * L1_ENTRY_BYTES);
    if (header.crypto !== undefined) add(header.crypto.at, header.crypto.bytes);
    try {
      for (const { at, bytes } of bitmapRanges(this.storage, header, this.limits)) add(at, bytes);
    } catch (error) {
      // A damaged bitmap is nothing to protect.
      if (!(error instanceof ImgfsError)) throw error;
    }
    return found;
  }
}

function mark(set: BitPages, offset: number, length: number, clusterSize: number): void {
  for (let at = offset; at < offset + length; at += clusterSize) set.add(at / clusterSize);
}
