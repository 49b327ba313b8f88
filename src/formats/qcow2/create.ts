import type { CreateOptions, Creation } from '../../image/creation.js';
import { roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { encodeExtensions, encodeHeader, featureBits, putU64 } from './encode.js';
import { EXTENSION, encodeRefcount, HEADER_BYTES } from './layout.js';

const CLUSTER_BITS = 16;
const CLUSTER = 2 ** CLUSTER_BITS;
const REFCOUNT_BITS = 16;
const SECTOR = 512;
/** Guest bytes that one L2 table maps. */
const TABLE_SPAN = (CLUSTER / 8) * CLUSTER;
/** The longest name of a backing file that QEMU takes. */
const MAX_BACKING = 1023;
/** Where the parts lie: header, refcount table and its one block, a cluster each, then the L1 table. */
const REFCOUNT_TABLE_AT = CLUSTER;
const REFCOUNT_BLOCK_AT = 2 * CLUSTER;
const L1_AT = 3 * CLUSTER;

export const creation: Creation = { options: [], backing: true, create: createImage };

/**
 * Makes an empty image of version 3 with clusters of 64 KiB in an empty storage, durable on return. A size that is no
 * whole number of sectors is rounded up. Throws `limit` and what the storage throws.
 */
function createImage(storage: Storage, options: CreateOptions): void {
  const size = roundUp(options.size, SECTOR);
  const l1Entries = Math.ceil(size / TABLE_SPAN);
  const l1Clusters = Math.ceil((l1Entries * 8) / CLUSTER);
  const clusters = L1_AT / CLUSTER + l1Clusters;
  if (clusters > (CLUSTER * 8) / REFCOUNT_BITS) {
    throw new ImgfsError('limit', `${storage.name}: a disk of ${size} bytes is too large for qcow2`);
  }
  const table = Buffer.alloc(8);
  putU64(table, 0, REFCOUNT_BLOCK_AT);
  const block = Buffer.alloc(CLUSTER);
  for (let n = 0; n < clusters; n++) encodeRefcount(block, n, REFCOUNT_BITS, 1);
  const header = headerCluster(storage, options, { size, l1Entries });
  // The L1 table is zeros, which is what the rest of a file is that was made longer.
  storage.resize(clusters * CLUSTER);
  storage.write(table, REFCOUNT_TABLE_AT);
  storage.write(block, REFCOUNT_BLOCK_AT);
  storage.flush();
  storage.write(header, 0);
  storage.flush();
}

function headerCluster(
  storage: Storage,
  { backing }: CreateOptions,
  { size, l1Entries }: { readonly size: number; readonly l1Entries: number },
): Buffer {
  const name = Buffer.from(backing?.name ?? '');
  if (name.length > MAX_BACKING) {
    throw new ImgfsError('limit', `${storage.name}: the name of its backing file is longer than ${MAX_BACKING} bytes`);
  }
  const area = encodeExtensions(
    backing === undefined ? [] : [{ type: EXTENSION.backingFormat, data: Buffer.from(backing.format) }],
  );
  const nameAt = HEADER_BYTES.known + area.length;
  const none = featureBits();
  const header = encodeHeader({
    version: 3,
    backingAt: name.length === 0 ? 0 : nameAt,
    backingBytes: name.length,
    clusterBits: CLUSTER_BITS,
    size,
    cryptMethod: 0,
    l1Entries,
    l1At: L1_AT,
    refcountTableAt: REFCOUNT_TABLE_AT,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsAt: 0,
    incompatible: none,
    compatible: none,
    autoclear: none,
    refcountOrder: Math.log2(REFCOUNT_BITS),
    headerBytes: HEADER_BYTES.known,
    compressionType: 0,
  });
  return Buffer.concat([header, area, name]);
}
