import type { CreateOptions, Creation } from '../../image/creation.js';
import { DEFAULT_LIMITS } from '../../image/limits.js';
import { roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { geometryOf } from './header.js';
import { encodeHeader, QEMU, SECTOR } from './layout.js';

const TWO_32 = 2 ** 32;

/** In the layout of QEMU on 64-bit hosts: its last version could be asked for a size and a backing file. */
export const creation: Creation = { options: [], backing: true, create };

/** The file ends with the bitmap, as QEMU made it. The header comes last: without it there is no image. */
function create(storage: Storage, { size: wanted, backing }: CreateOptions): void {
  const size = roundUp(wanted, SECTOR);
  if (size > DEFAULT_LIMITS.virtualSize) {
    throw new ImgfsError('limit', `${storage.name}: a disk of ${size} bytes is too large for cow`);
  }
  const name = Buffer.from(backing?.name ?? '');
  // One byte ends it.
  if (name.length >= QEMU.name.bytes) {
    throw new ImgfsError('limit', `${storage.name}: the name of its backing file is longer than 1023 bytes`);
  }
  const modified = (backing?.modified ?? 0) % TWO_32;
  const fields = { name, modified, size, sectorSize: SECTOR, alignment: undefined, kind: undefined };
  const { bitmapAt, bitmapBytes } = geometryOf(QEMU, fields);
  storage.resize(bitmapAt + bitmapBytes);
  storage.flush();
  storage.write(encodeHeader(QEMU, fields), 0);
  storage.flush();
}
