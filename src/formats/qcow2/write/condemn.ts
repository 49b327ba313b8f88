import type { Health } from '../../../image/health.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { INCOMPATIBLE, incompatibleByte } from '../layout.js';
import { setBits } from '../read/layout.js';
import type { LiveHeader } from './live-header.js';

/**
 * A table was found to be damaged while the image was being written: nothing of it can be trusted any more. This image
 * is not written again, and an image of version 3 is marked as corrupt, as QEMU does it, so that no later writer goes
 * on either before it is repaired. Reading goes on.
 *
 * The mark is one byte, and whether it can be written is not waited for: it is right at any moment, and a header that
 * lacks it is no worse than before. It may be set by a thread that only holds the lock with others, all of which would
 * write the same byte.
 */
export function condemn(storage: Storage, live: LiveHeader, health: Health, error: ImgfsError): void {
  const before = health.sound;
  health.damage(error);
  if (!before || live.now.version < 3) return;
  const { at, value } = incompatibleByte(INCOMPATIBLE.corrupt);
  try {
    storage.write(Uint8Array.of(setBits(live.now.stored[at] ?? 0, value)), at);
  } catch (failure) {
    // The damage is what there is to report.
    if (!(failure instanceof ImgfsError)) throw failure;
  }
}
