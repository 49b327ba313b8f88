import { headBytes } from '../../../codec/luks/format.js';
import { ImgfsError } from '../../../lib/errors.js';
import { MAX } from '../layout.js';
import { L1_ENTRY_BYTES, REFCOUNT_TABLE_ENTRY_BYTES } from '../read/layout.js';
import type { Plan } from './options.js';

/** Where the parts lie, in clusters: the header, the refcount table, its blocks, the L1 table, the LUKS header. */
export interface Geometry {
  readonly clusterSize: number;
  readonly tableAt: number;
  readonly blocksAt: number;
  readonly l1At: number;
  readonly l1Entries: number;
  /** Where a LUKS header begins, and its length in bytes; 0 where there is none. */
  readonly luksAt: number;
  readonly luksBytes: number;
  readonly end: number;
}

/** Throws `limit` for a disk whose L1 table or refcount table would be longer than QEMU reads. */
export function geometryOf({ size, clusterBits, extended, refcountBits, encryption }: Plan, name: string): Geometry {
  const clusterSize = 2 ** clusterBits;
  const clusters = (bytes: number): number => Math.ceil(bytes / clusterSize);
  const tableSpan = (clusterSize / (extended ? 16 : 8)) * clusterSize;
  const l1Entries = Math.ceil(size / tableSpan);
  const luksBytes = encryption?.method === 'luks' ? headBytes(encryption.luks.keyBytes) : 0;
  const l1Clusters = clusters(l1Entries * L1_ENTRY_BYTES);
  const fixed = 1 + l1Clusters + clusters(luksBytes);
  let [blocks, table] = [0, 0];
  // Both count themselves: grown until they cover what they have become.
  for (let end = -1; end !== fixed + table + blocks; ) {
    end = fixed + table + blocks;
    blocks = clusters((end * refcountBits) / 8);
    table = clusters(blocks * REFCOUNT_TABLE_ENTRY_BYTES);
  }
  if (l1Entries * L1_ENTRY_BYTES > MAX.l1Bytes || table * clusterSize > MAX.refcountTableBytes) {
    throw new ImgfsError('limit', `${name}: a disk of ${size} bytes needs too large a table`, {
      hint: 'larger clusters allow it',
    });
  }
  const blocksAt = 1 + table;
  const l1At = blocksAt + blocks;
  const luksAt = l1At + l1Clusters;
  return { clusterSize, tableAt: 1, blocksAt, l1At, l1Entries, luksAt, luksBytes, end: fixed + table + blocks };
}
