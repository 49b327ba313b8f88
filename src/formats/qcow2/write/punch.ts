import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import type { ClusterRun } from './refcount-book.js';

/** Punching less than a page of the host is only a write of zeros. */
const PAGE = 4096;

/** Gives free clusters back to the host. What the host cannot do costs space, nothing else. */
export function punch(storage: Storage, runs: readonly ClusterRun[], clusterSize: number): void {
  for (const { first, count } of runs) {
    if (count * clusterSize < PAGE) continue;
    try {
      storage.discard(first * clusterSize, count * clusterSize);
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      return;
    }
  }
}
