import type { OpenContext } from '../../../image/format.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { readHeader } from '../header.js';
import { repairDirty } from './dirty.js';
import { Volume } from './volume.js';

/**
 * An image whose structure is to be changed and no byte of its disk: what it names stays unopened, and its bitmaps stay
 * true. Repaired first, where its last writer did not finish. Throws `corrupt` for one that is marked so.
 */
export function openForStructure(storage: Storage, context: OpenContext): Volume {
  const header = readHeader(storage, context.limits);
  if (header.corrupt) {
    throw new ImgfsError('corrupt', `${storage.name}: marked as corrupt`, { hint: 'repair it before it is written' });
  }
  const volume = new Volume(storage, storage, header, context);
  if (header.dirty) repairDirty(volume);
  return volume;
}
