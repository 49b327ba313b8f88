import { assertUsable } from '../../codec/luks/unlock.js';
import type { Checking } from '../../image/check.js';
import { roundDown } from '../../lib/bits.js';
import { SECTOR } from '../../storage/cipher.js';
import type { Storage } from '../../storage/storage.js';
import { readHeader } from './image.js';

/** All that can be wrong without a key is the header, and that is an error of opening: there is nothing to mend. */
export function* check(storage: Storage): Checking {
  const header = readHeader(storage);
  assertUsable(storage, header);
  const size = roundDown(storage.size() - header.payloadOffset, SECTOR);
  const sectors = size / SECTOR;
  yield 1;
  return {
    corruptions: 0,
    leaks: 0,
    checkErrors: 0,
    corruptionsFixed: 0,
    leaksFixed: 0,
    imageEnd: header.payloadOffset + size,
    units: { total: sectors, allocated: sectors, fragmented: 0, compressed: 0 },
  };
}
