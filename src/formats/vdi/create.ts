import { type CreateContext, type CreateOptions, type Creation, flagOption } from '../../image/creation.js';
import { roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { encodeHeader } from './encode.js';
import { SECTOR } from './header.js';
import { ENTRY, ENTRY_BYTES, MAX_BLOCKS, randomUuid, TYPE, UUID_BYTES } from './layout.js';

const BLOCK_SIZE = 1024 * 1024;
const MAP_AT = SECTOR;

/** Entries written at once. */
const CHUNK = 65_536;

const STATIC = flagOption('static', 'all blocks have their place in the file from the start', false);

export const creation: Creation = { options: [STATIC], backing: false, create: createImage };

/**
 * Makes an empty image as QEMU lays it out: header, map, blocks of 1 MiB; the map is filled up with zeros to a whole
 * sector. A static one is as long as it will ever be, but all holes. Throws `limit` and what the storage throws.
 */
function createImage(storage: Storage, options: CreateOptions, context: CreateContext): void {
  const size = roundUp(options.size, SECTOR);
  const blocks = Math.ceil(size / BLOCK_SIZE);
  if (blocks > MAX_BLOCKS) {
    throw new ImgfsError('limit', `${storage.name}: a disk of ${size} bytes is too large for vdi`, {
      hint: `the limit is ${MAX_BLOCKS * BLOCK_SIZE}`,
    });
  }
  const isStatic = options.values.get(STATIC);
  const dataAt = MAP_AT + roundUp(blocks * ENTRY_BYTES, SECTOR);
  const header = encodeHeader({
    type: isStatic ? TYPE.static : TYPE.dynamic,
    size,
    blockSize: BLOCK_SIZE,
    blocks,
    allocated: isStatic ? blocks : 0,
    mapAt: MAP_AT,
    dataAt,
    uuid: randomUuid(context.randomBytes(UUID_BYTES)),
    modified: randomUuid(context.randomBytes(UUID_BYTES)),
  });
  storage.resize(isStatic ? dataAt + blocks * BLOCK_SIZE : dataAt);
  for (let n = 0; n < blocks; n += CHUNK) {
    const entries = Buffer.alloc(Math.min(CHUNK, blocks - n) * ENTRY_BYTES);
    for (let k = 0; k * ENTRY_BYTES < entries.length; k++) {
      entries.writeUInt32LE(isStatic ? n + k : ENTRY.free, k * ENTRY_BYTES);
    }
    storage.write(entries, MAP_AT + n * ENTRY_BYTES);
  }
  storage.flush();
  storage.write(header, 0);
  storage.flush();
}
