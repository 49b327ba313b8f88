import { headBytes } from '../../../codec/luks/format.js';
import type { CreateOptions, Measured, MeasuredDisk } from '../../../image/creation.js';
import { roundUp } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import { BITMAP_HEADER_BYTES, MAX } from '../layout.js';
import { L1_ENTRY_BYTES, REFCOUNT_TABLE_ENTRY_BYTES } from '../read/layout.js';
import { measuredPlan, type Plan } from './options.js';

/** What an image is measured for does not have a name yet. */
const NAME = 'the image';

/**
 * As QEMU reckons: the tables are always those of a disk that is written everywhere, so that `required` is rather too
 * much than too little. With a backing file nobody knows what would be in the image: all of it.
 */
export function measure(wishes: CreateOptions, disk: MeasuredDisk | undefined): Measured {
  const plan = measuredPlan(wishes, NAME);
  const clusterSize = 2 ** plan.clusterBits;
  const size = roundUp(plan.size, clusterSize);
  const { tables, l1Bytes } = tablesOf(plan, size);
  if (l1Bytes > MAX.l1Bytes) {
    throw new ImgfsError('limit', `a disk of ${plan.size} bytes needs too large a table`, {
      hint: 'larger clusters allow it',
    });
  }
  const luks = plan.encryption?.method === 'luks' ? roundUp(headBytes(plan.encryption.luks.keyBytes), clusterSize) : 0;
  const full = luks + tables + size;
  const isWhole = plan.preallocation === 'falloc' || plan.preallocation === 'full';
  const used = isWhole || (disk !== undefined && plan.backing !== undefined) ? size : bytesUsed(disk, clusterSize);
  const required = full - size + used;
  if (plan.version === 2 || disk?.bitmaps === undefined) return { required, full };
  return { required, full, bitmaps: bitmapBytes(disk.bitmaps, plan.size, clusterSize) };
}

/** Header, mapping tables, and the refcounts of all that and of `size` bytes of clusters. */
function tablesOf({ clusterBits, extended, refcountBits }: Plan, size: number): { tables: number; l1Bytes: number } {
  const clusterSize = 2 ** clusterBits;
  const entryBytes = extended ? 16 : 8;
  const l2Bytes = roundUp((size / clusterSize) * entryBytes, clusterSize);
  const l1Bytes = (l2Bytes / clusterSize) * L1_ENTRY_BYTES;
  const mapping = clusterSize + l2Bytes + roundUp(l1Bytes, clusterSize);
  const clusters = (mapping + size) / clusterSize;
  const perBlock = (clusterSize * 8) / refcountBits;
  let [blocks, table] = [0, 0];
  // Both count themselves: grown until they cover what they have become.
  for (let end = -1; end !== clusters + table + blocks; ) {
    end = clusters + table + blocks;
    blocks = Math.ceil(end / perBlock);
    table = Math.ceil((blocks * REFCOUNT_TABLE_ENTRY_BYTES) / clusterSize);
  }
  return { tables: mapping + (blocks + table) * clusterSize, l1Bytes };
}

/** Whole clusters of which a part is stored. */
function bytesUsed(disk: MeasuredDisk | undefined, clusterSize: number): number {
  let [bytes, end] = [0, 0];
  for (const { start, length, data, zero, present } of disk?.extents() ?? []) {
    const from = Math.max(end, start - (start % clusterSize));
    if (zero || !data || !present || start + length <= end) continue;
    end = roundUp(start + length, clusterSize);
    bytes += end - from;
  }
  return bytes;
}

/** Every bit of them stored, tables and directory. Those that cannot be trusted are not copied. */
function bitmapBytes(bitmaps: NonNullable<MeasuredDisk['bitmaps']>, size: number, clusterSize: number): number {
  let [bytes, directory] = [0, 0];
  for (const { name, granularity, inUse } of bitmaps) {
    if (inUse) continue;
    const clusters = Math.ceil(Math.ceil(Math.ceil(size / granularity) / 8) / clusterSize);
    bytes += clusters * clusterSize + roundUp(clusters * L1_ENTRY_BYTES, clusterSize);
    directory += roundUp(BITMAP_HEADER_BYTES + Buffer.byteLength(name), 8);
  }
  return bytes + roundUp(directory, clusterSize);
}
