import type { CreateContext, CreateOptions, Creation } from '../../../image/creation.js';
import { makeLuks } from '../../../image/luks-creation.js';
import type { Storage } from '../../../storage/storage.js';
import { putU64 } from '../encode.js';
import { luksHead } from '../encryption.js';
import { encodeRefcount, REFCOUNT_TABLE_ENTRY_BYTES } from '../read/layout.js';
import { preallocateNew } from '../write/preallocate.js';
import { type Geometry, geometryOf } from './geometry.js';
import { headerCluster } from './header.js';
import { measure } from './measure.js';
import { type NewEncryption, options, type Plan, planOf } from './options.js';

export const creation: Creation = { options, backing: true, create: createImage, measure };

/**
 * Makes an empty image in an empty storage, durable on return: tables first, the header last, so that an image cut
 * short has none. A size that is no whole number of sectors is rounded up. Throws `usage`, `limit`, and what the
 * storage and the context throw.
 */
function createImage(storage: Storage, wishes: CreateOptions, context: CreateContext): void {
  const plan = planOf(wishes, storage.name);
  const geometry = geometryOf(plan, storage.name);
  const header = headerCluster(storage.name, plan, geometry);
  const data = plan.dataFile === undefined ? storage : context.makeStorage(plan.dataFile);
  if (data !== storage) {
    data.resize(plan.size);
    data.flush();
  }
  // The L1 table is zeros, which is what a storage is that was made longer.
  storage.resize(geometry.end * geometry.clusterSize);
  writeRefcounts(storage, plan, geometry);
  if (plan.encryption !== undefined) makeEncryption(storage, plan.encryption, geometry, context);
  storage.flush();
  storage.write(header, 0);
  storage.flush();
  if (plan.preallocation !== 'off' && plan.size > 0) preallocateNew(storage, data, plan.preallocation);
}

/** By AES nothing is stored of the passphrase; that there is one is asked for all the same, as QEMU does. */
function makeEncryption(storage: Storage, encryption: NewEncryption, geometry: Geometry, context: CreateContext): void {
  const { luksAt, luksBytes, clusterSize } = geometry;
  if (encryption.method === 'aes') context.passphrase();
  else {
    const head = luksHead(storage, { at: luksAt * clusterSize, bytes: luksBytes });
    makeLuks(head, encryption.luks, encryption.milliseconds, context);
  }
}

/** Every cluster there is so far is used once. */
function writeRefcounts(storage: Storage, { refcountBits }: Plan, geometry: Geometry): void {
  const { clusterSize, tableAt, blocksAt, l1At, end } = geometry;
  const table = Buffer.alloc((l1At - blocksAt) * REFCOUNT_TABLE_ENTRY_BYTES);
  const perBlock = (clusterSize * 8) / refcountBits;
  for (let n = 0; n < l1At - blocksAt; n++) {
    putU64(table, n * REFCOUNT_TABLE_ENTRY_BYTES, (blocksAt + n) * clusterSize);
    const block = Buffer.alloc(clusterSize);
    const used = Math.min(perBlock, end - n * perBlock);
    for (let entry = 0; entry < used; entry++) encodeRefcount(block, entry, refcountBits, 1);
    storage.write(block, (blocksAt + n) * clusterSize);
  }
  storage.write(table, tableAt * clusterSize);
}
