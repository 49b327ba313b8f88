import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const TIB = 1024 ** 4;

/** What one image may cost us, whatever its fields claim. Every one has a test at the limit and one past it. */
export interface Limits {
  /** Largest guest disk, in bytes. */
  readonly virtualSize: number;
  /** Largest single table read as a whole (L1, refcount table, snapshot table, block map), in bytes. */
  readonly tableBytes: number;
  /** Cached pieces of tables (L2 and the like) kept by one open image, in bytes. */
  readonly cacheBytes: number;
  /** Unpacked clusters kept by one open image, in bytes. */
  readonly unpackedBytes: number;
  /** Images from the one named by the user down to the base. */
  readonly chainDepth: number;
  /** Internal snapshots of one image. */
  readonly snapshots: number;
}

export const DEFAULT_LIMITS: Limits = {
  virtualSize: 2048 * TIB,
  tableBytes: 64 * MIB,
  cacheBytes: 8 * MIB,
  unpackedBytes: 8 * MIB,
  chainDepth: 64,
  snapshots: 65_536,
};

/**
 * For whoever goes through a disk once, from its beginning to its end: pieces of tables are wanted one after the other,
 * and memory that was used before costs less than new memory.
 */
export const ONE_PASS: Limits = { ...DEFAULT_LIMITS, cacheBytes: MIB };

/** A table as a header describes it: where, how many entries, how wide, and how much of it we accept. */
export interface TableClaim {
  /** What messages call it. */
  readonly name: string;
  readonly at: number;
  readonly entries: number;
  readonly entryBytes: number;
  /** The format's own limit in bytes (QEMU's where it has one). */
  readonly maxBytes: number;
  /** `at` must be a multiple of this. */
  readonly alignment: number;
}

/**
 * The one function every size from a file passes before anything is read or allocated: the table is aligned, under
 * its limit and inside the storage. Returns its length in bytes. Throws `corrupt`, `limit` or `truncated`.
 */
export function checkTable(storage: Storage, claim: TableClaim): number {
  const { name, at, entries, entryBytes, maxBytes, alignment } = claim;
  if (!Number.isSafeInteger(entries) || entries < 0) throw fault('corrupt', storage, name, 'has an impossible length');
  const bytes = entries * entryBytes;
  if (bytes > maxBytes) throw fault('limit', storage, name, `is ${bytes} bytes long, the limit is ${maxBytes}`);
  if (!Number.isSafeInteger(at) || at < 0) throw fault('corrupt', storage, name, 'has an impossible offset');
  if (bytes === 0) return 0;
  if (at % alignment !== 0) throw fault('corrupt', storage, name, `at ${at} is not aligned to ${alignment}`);
  if (at + bytes > storage.size()) throw fault('truncated', storage, name, `at ${at} lies past the end of the file`);
  return bytes;
}

function fault(reason: 'corrupt' | 'limit' | 'truncated', storage: Storage, name: string, what: string): ImgfsError {
  return new ImgfsError(reason, `${storage.name}: the ${name} ${what}`);
}
