import { roundUp } from '../../../lib/bits.js';
import type { HeaderChanges } from '../encode.js';
import { encodeSnapshotExtra } from '../encode.js';
import { SNAPSHOT_HEADER_BYTES } from '../layout.js';
import { readSnapshots, type StoredSnapshot, snapshotTableBytes } from '../snapshots.js';
import type { Transaction } from './transaction.js';
import type { Volume } from './volume.js';

/** Writes a new snapshot table of these entries and gives up the old one. Returns what the header must say then. */
export function putSnapshotTable(volume: Volume, change: Transaction, entries: readonly Buffer[]): HeaderChanges {
  const { storage, live, limits } = volume;
  const old = readSnapshots(storage, live.now, limits);
  if (old.length > 0) change.addTable(live.now.snapshotsAt, snapshotTableBytes(old), -1);
  if (entries.length === 0) return { snapshotsAt: 0, snapshotCount: 0 };
  return { snapshotsAt: change.put(Buffer.concat(entries)), snapshotCount: entries.length };
}

/** The entry as stored, or, where it does not say the disk's size, with that added. Unknown extra data is kept. */
export function withSize({ stored, snapshot, sizeStored, extraBytes, nameAt }: StoredSnapshot): Buffer {
  if (sizeStored) return stored;
  const head = Buffer.from(stored.subarray(0, SNAPSHOT_HEADER_BYTES));
  const extra = encodeSnapshotExtra(snapshot.vmStateSize, snapshot.diskSize, snapshot.icount).subarray(0, 24);
  head.writeUInt32BE(extra.length, 36);
  const id = stored.subarray(SNAPSHOT_HEADER_BYTES + extraBytes, nameAt);
  return padded(Buffer.concat([head, extra, id, snapshot.nameBytes]));
}

/** The entry under another name. */
export function renamed({ stored, nameAt }: StoredSnapshot, name: Uint8Array): Buffer {
  const head = Buffer.from(stored.subarray(0, nameAt));
  head.writeUInt16BE(name.length, 14);
  return padded(Buffer.concat([head, name]));
}

function padded(entry: Buffer): Buffer {
  return Buffer.concat([entry], roundUp(entry.length, 8));
}
