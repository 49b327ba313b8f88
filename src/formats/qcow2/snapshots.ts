import type { Snapshot } from '../../image/image.js';
import type { Limits } from '../../image/limits.js';
import { roundUp } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import type { Header } from './header.js';
import { decodeSnapshot, decodeSnapshotExtra, MAX, SNAPSHOT_HEADER_BYTES, type SnapshotFields } from './layout.js';

/** A snapshot and where its L1 table lies. */
export interface StoredSnapshot {
  readonly snapshot: Snapshot;
  readonly l1At: number;
  readonly l1Entries: number;
  /** Host offset at which its entry of the snapshot table ends. */
  readonly end: number;
  /** Its entry of the table as stored, padding included, and where in it the name begins. */
  readonly stored: Buffer;
  readonly nameAt: number;
  readonly extraBytes: number;
  /** The entry says how large the disk was; without that, the image's size counts. */
  readonly sizeStored: boolean;
}

/** Length of the table that holds these entries. */
export function snapshotTableBytes(entries: readonly StoredSnapshot[]): number {
  return entries.reduce((sum, { stored }) => sum + stored.length, 0);
}

/** The table is read in pieces of this: its length is known only by walking it. */
const WINDOW_BYTES = 64 * 1024;

/**
 * Reads the snapshot table. Every entry advances by at least its header, and the walk ends with the count of the
 * header (already limited) or at the table's own limit. Throws `corrupt`, `truncated`, `limit`.
 */
export function readSnapshots(storage: Storage, header: Header, limits: Limits): StoredSnapshot[] {
  const { name } = storage;
  if (header.snapshotCount > 0 && header.snapshotsAt % header.clusterSize !== 0) {
    throw corrupt(`${name}: the snapshot table at ${header.snapshotsAt} is not aligned`);
  }
  const cursor = new Cursor(storage, header.snapshotsAt);
  const maxBytes = Math.min(MAX.snapshotTableBytes, limits.tableBytes);
  const found: StoredSnapshot[] = [];
  const ids = new Set<string>();
  for (let index = 0; index < header.snapshotCount; index++) {
    const entry = readEntry(cursor, header, index, name);
    const id = uniqueId(entry.snapshot.id, index, ids);
    ids.add(id);
    found.push(id === entry.snapshot.id ? entry : { ...entry, snapshot: { ...entry.snapshot, id } });
    if (cursor.at - header.snapshotsAt > maxBytes) {
      throw new ImgfsError('limit', `${name}: the snapshot table is longer than ${maxBytes} bytes`);
    }
  }
  return found;
}

function readEntry(cursor: Cursor, header: Header, index: number, name: string): StoredSnapshot {
  const what = `${name}: snapshot ${index + 1}`;
  const { at } = cursor;
  const fields = decodeSnapshot(cursor.take(SNAPSHOT_HEADER_BYTES), what);
  if (fields.extraBytes > MAX.snapshotExtraBytes) {
    throw new ImgfsError('limit', `${what} has ${fields.extraBytes} bytes of extra data`);
  }
  const idAt = SNAPSHOT_HEADER_BYTES + fields.extraBytes;
  const nameAt = idAt + fields.idBytes;
  const length = nameAt + fields.nameBytes;
  cursor.at = at;
  // One piece of memory for each of thousands; the padding of the last may lie past the end of the file.
  const stored = Buffer.alloc(roundUp(length, 8));
  stored.set(cursor.take(length));
  cursor.at = at + stored.length;
  const extra = decodeSnapshotExtra(stored.subarray(SNAPSHOT_HEADER_BYTES, idAt), what);
  return {
    snapshot: {
      id: stored.toString('utf8', idAt, nameAt),
      nameBytes: stored.subarray(nameAt, length),
      name: stored.toString('utf8', nameAt, length),
      ...timesOf(fields),
      vmStateSize: extra.vmStateSize ?? fields.vmStateSize,
      diskSize: extra.diskSize ?? header.size,
      ...(extra.icount === undefined ? {} : { icount: extra.icount }),
    },
    l1At: fields.l1At,
    l1Entries: fields.l1Entries,
    end: cursor.at,
    stored,
    nameAt,
    extraBytes: fields.extraBytes,
    sizeStored: extra.diskSize !== undefined,
  };
}

function timesOf(fields: SnapshotFields): Pick<Snapshot, 'seconds' | 'nanoseconds' | 'vmClockNanoseconds'> {
  const { seconds, nanoseconds, vmClockNanoseconds } = fields;
  return { seconds, nanoseconds, vmClockNanoseconds };
}

/** Ids are unique by the format; in an image where they are not, each snapshot must still be reachable. */
function uniqueId(id: string, index: number, taken: ReadonlySet<string>): string {
  if (id !== '' && !taken.has(id)) return id;
  let unique = `${id}#${index + 1}`;
  while (taken.has(unique)) unique += '#';
  return unique;
}

/** Reads a structure whose length shows only while reading it. What `take` returns is good until the next call. */
class Cursor {
  private window = Buffer.alloc(0);
  private windowAt = 0;

  constructor(
    private readonly storage: Storage,
    public at: number,
  ) {}

  /** The next `length` bytes. Throws `truncated`. */
  take(length: number): Buffer {
    if (this.at < this.windowAt || this.at + length > this.windowAt + this.window.length) this.fill(length);
    const from = this.at - this.windowAt;
    this.at += length;
    return this.window.subarray(from, from + length);
  }

  private fill(length: number): void {
    const rest = Math.max(0, this.storage.size() - this.at);
    this.window = Buffer.alloc(Math.max(length, Math.min(WINDOW_BYTES, rest)));
    this.windowAt = this.at;
    readTable(this.storage, this.window, this.at, 'snapshot table');
  }
}
