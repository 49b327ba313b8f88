import { type CreateOptions, type Creation, choiceOption, type Measured } from '../../image/creation.js';
import { roundUp } from '../../lib/bits.js';
import { type Storage, writeZeros } from '../../storage/storage.js';

const SECTOR = 512;

const PREALLOCATION = choiceOption(
  'preallocation',
  'nothing, space on the host, or written zeros',
  ['off', 'falloc', 'full'],
  'off',
);

export const creation: Creation = { options: [PREALLOCATION], backing: false, create: createDisk, measure };

/** Makes a disk of zeros, of whole sectors as qemu-img does. */
function createDisk(storage: Storage, options: CreateOptions): void {
  const size = roundUp(options.size, SECTOR);
  storage.resize(size);
  const preallocation = options.values.get(PREALLOCATION);
  if (preallocation === 'falloc') storage.allocate(0, size);
  if (preallocation === 'full') writeZeros(storage, 0, size);
  storage.flush();
}

/** Holes count as what they read as. */
function measure({ size }: CreateOptions): Measured {
  const bytes = roundUp(size, SECTOR);
  return { required: bytes, full: bytes };
}
