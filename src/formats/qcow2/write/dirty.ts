import { ImgfsError } from '../../../lib/errors.js';
import { drained } from '../../../lib/steps.js';
import { Inspection } from '../check/check.js';
import { mend } from '../check/repair.js';
import { readHeader } from '../header.js';
import type { Volume } from './volume.js';

/** What trying again cannot change. */
const FINAL: readonly string[] = ['corrupt', 'truncated', 'limit', 'unsupported'];

/**
 * Repairs an image whose last writer did not finish: its refcounts were to be counted anew, which is done here, and
 * durable, before anything relies on them. The mark goes last, so that a crash or a failing host at any point leaves
 * an image that is repaired the next time. Where it cannot be, the image is not written; it was not made worse.
 */
export function repairDirty(volume: Volume): void {
  const { storage, limits, health, stamps, progress } = volume;
  try {
    const header = readHeader(storage, limits);
    const found = new Inspection(storage, header, limits, () => {});
    drained(found.count(), progress);
    const { census } = found;
    if (!census.incomplete) drained(mend({ storage, health }, header, found, 'all'), progress);
    // Refcounts, flags and perhaps the whole refcount structure have changed, in every thread.
    stamps.bumpAll();
    volume.catchUp();
    if (!volume.live.now.dirty) return;
    throw new ImgfsError(
      census.findings.checkErrors > 0 ? 'io' : 'corrupt',
      `${storage.name}: its last writer did not finish, and it cannot be repaired`,
      { hint: 'imgfs check says what is wrong with it' },
    );
  } catch (error) {
    if (error instanceof ImgfsError && FINAL.includes(error.reason)) throw health.damage(error);
    throw error;
  } finally {
    progress?.(1);
  }
}
