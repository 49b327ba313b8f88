import { headBytes } from '../../codec/luks/format.js';
import type { CreateContext, CreateOptions, Creation, Measured } from '../../image/creation.js';
import { listed, luksOptions, makeLuks, wantedLuks } from '../../image/luks-creation.js';
import { roundUp } from '../../lib/bits.js';
import { SECTOR } from '../../storage/cipher.js';
import type { Storage } from '../../storage/storage.js';

const OPTIONS = luksOptions('');

export const creation: Creation = { options: listed(OPTIONS), backing: false, create, measure };

/** Header, key slot and room for the disk, which reads as what zeros decrypt to until it is written: as QEMU's does. */
function create(storage: Storage, { size, values }: CreateOptions, context: CreateContext): void {
  const wanted = wantedLuks(values, OPTIONS, storage.name);
  storage.resize(headBytes(wanted.keyBytes) + roundUp(size, SECTOR));
  makeLuks(storage, wanted, values.get(OPTIONS.time), context);
}

function measure({ size, values }: CreateOptions): Measured {
  const bytes = headBytes(wantedLuks(values, OPTIONS, 'the image').keyBytes) + roundUp(size, SECTOR);
  return { required: bytes, full: bytes };
}
