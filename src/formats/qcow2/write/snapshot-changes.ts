import type { Snapshot, SnapshotFacts } from '../../../image/image.js';
import type { SnapshotWriter } from '../../../image/writer.js';
import { bigEndianBytes } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import { encodeSnapshot, encodeSnapshotExtra, type HeaderChanges } from '../encode.js';
import { MAX } from '../layout.js';
import { isCopied, L1_ENTRY_BYTES, withCopied } from '../read/layout.js';
import { readL1 } from '../read/tables.js';
import { readSnapshots, type StoredSnapshot } from '../snapshots.js';
import { putSnapshotTable, renamed } from './snapshot-table.js';
import { countEntries, countTree, readL2, settleFlags, tablesOf } from './table-walk.js';
import type { Transaction } from './transaction.js';
import type { Volume } from './volume.js';

const MAX_NAME_BYTES = 65_535;

function taken(image: string, id: string): ImgfsError {
  return new ImgfsError('exists', `${image} has a snapshot with the id ${id} already`);
}

/** Internal snapshots: each change is one transaction, so there is the old list or the new one, never less. */
export class SnapshotChanges implements SnapshotWriter {
  constructor(private readonly volume: Volume) {}

  create(name: Uint8Array, as: SnapshotFacts): Snapshot {
    const { volume } = this;
    const { seconds, nanoseconds, vmClockNanoseconds = 0n, icount } = as;
    this.assertPossible(name);
    let made: Snapshot | undefined;
    this.change((change, all) => {
      const { size, l1Entries } = volume.live.now;
      if (all.length >= Math.min(MAX.snapshots, volume.limits.snapshots)) {
        throw new ImgfsError('limit', `${volume.storage.name}: ${all.length} snapshots are all it can have`);
      }
      const l1 = shareTables(volume, change);
      const id = as.id ?? nextId(all);
      if (all.some(({ snapshot }) => snapshot.id === id)) throw taken(volume.storage.name, id);
      const entry = encodeSnapshot({
        l1At: change.put(bigEndianBytes(l1)),
        l1Entries,
        id: Buffer.from(id),
        name,
        seconds,
        nanoseconds,
        vmClockNanoseconds,
        vmStateSize: 0,
        extra: encodeSnapshotExtra(0, size, icount),
      });
      made = {
        id,
        nameBytes: Uint8Array.from(name),
        name: Buffer.from(name).toString('utf8'),
        seconds,
        nanoseconds,
        vmClockNanoseconds,
        vmStateSize: 0,
        diskSize: size,
        ...(icount === undefined ? {} : { icount }),
      };
      const table = putSnapshotTable(volume, change, [...all.map(({ stored }) => stored), entry]);
      return { ...table, ...change.putL1(l1) };
    });
    if (made === undefined) throw new Error('the snapshot was not made');
    return made;
  }

  delete(id: string): void {
    const { volume } = this;
    this.change((change, all) => {
      const gone = this.find(all, id);
      countTree(volume, change, this.l1Of(gone), -1);
      change.addTable(gone.l1At, gone.l1Entries * L1_ENTRY_BYTES, -1);
      const entries = all.filter((entry) => entry !== gone).map(({ stored }) => stored);
      const table = putSnapshotTable(volume, change, entries);
      const l1 = volume.l1.words.slice();
      settleFlags(volume, change, l1);
      return { ...table, ...change.putL1(l1) };
    });
  }

  apply(id: string): void {
    const { volume } = this;
    this.change((change, all) => {
      const target = this.find(all, id);
      const { diskSize: size } = target.snapshot;
      const { tableSpan } = volume.live.now;
      if (size > volume.limits.virtualSize) {
        throw new ImgfsError('limit', `${volume.storage.name}: snapshot ${id} has ${size} bytes, which is too many`);
      }
      // What lies behind the disk is machine state and stays with the snapshot.
      const entries = Math.ceil(size / tableSpan);
      const l1 = new Uint32Array(entries * 2);
      l1.set(this.l1Of(target).subarray(0, entries * 2));
      countTree(volume, change, l1, 1);
      countTree(volume, change, volume.l1.words, -1);
      settleFlags(volume, change, l1);
      return { ...change.putL1(l1), size };
    });
  }

  rename(id: string, name: Uint8Array): void {
    const { volume } = this;
    assertName(volume, name);
    this.change((change, all) => {
      const target = this.find(all, id);
      const entries = all.map((entry) => (entry === target ? renamed(entry, name) : entry.stored));
      return putSnapshotTable(volume, change, entries);
    });
  }

  private change(make: (change: Transaction, all: readonly StoredSnapshot[]) => HeaderChanges): void {
    const { volume } = this;
    volume.catchUp();
    volume.prepare();
    volume.change((change) => make(change, readSnapshots(volume.storage, volume.live.now, volume.limits)));
  }

  private l1Of({ l1At, l1Entries }: StoredSnapshot): Uint32Array {
    const { storage, limits, live } = this.volume;
    return readL1(storage, limits, l1At, l1Entries, live.now);
  }

  private find(all: readonly StoredSnapshot[], id: string): StoredSnapshot {
    const found = all.find(({ snapshot }) => snapshot.id === id);
    if (found !== undefined) return found;
    throw new ImgfsError('missing', `${this.volume.storage.name}: no snapshot has the id ${id}`);
  }

  private assertPossible(name: Uint8Array): void {
    const { storage, live } = this.volume;
    assertName(this.volume, name);
    if (live.now.external) {
      throw new ImgfsError('unsupported', `${storage.name}: an image with a data file cannot have snapshots`);
    }
    if (live.now.refcountBits === 1) {
      throw new ImgfsError('unsupported', `${storage.name}: an image with 1-bit refcounts cannot have snapshots`);
    }
  }
}

function assertName(volume: Volume, name: Uint8Array): void {
  if (name.length <= MAX_NAME_BYTES) return;
  throw new ImgfsError('limit', `${volume.storage.name}: a snapshot's name of ${name.length} bytes is too long`);
}

/**
 * Counts everything the active layer refers to once more, and returns the L1 table that it and the snapshot are to
 * have. Tables that say COPIED of anything are replaced by one that does not, for both.
 */
function shareTables(volume: Volume, change: Transaction): Uint32Array {
  const { clusterSize } = volume.live.now;
  const l1 = volume.l1.words.slice();
  for (const { index, at } of tablesOf(volume, l1)) {
    const table = readL2(volume, at);
    countEntries(volume, change, table, 1);
    let owned = false;
    for (let i = 0; i < table.length; i += volume.l2.words) {
      owned ||= isCopied(table[i]!);
      table[i] = withCopied(table[i]!, false);
    }
    if (owned) {
      const place = change.put(bigEndianBytes(table));
      change.add(place / clusterSize, 1);
      change.add(at / clusterSize, -1);
      l1[index * 2] = Math.floor(place / 2 ** 32);
      l1[index * 2 + 1] = place % 2 ** 32;
    } else {
      change.add(at / clusterSize, 1);
      l1[index * 2] = withCopied(l1[index * 2]!, false);
    }
  }
  return l1;
}

/** One more than the largest number among the ids, as qemu-img counts. */
function nextId(all: readonly StoredSnapshot[]): string {
  return String(1 + all.reduce((most, { snapshot }) => Math.max(most, Number.parseInt(snapshot.id, 10) || 0), 0));
}
