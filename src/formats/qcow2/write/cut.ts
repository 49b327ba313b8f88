import type { Storage } from '../../../storage/storage.js';

/** Takes back what a change that failed has added to a file. */
export function cut(storage: Storage, size: number): void {
  try {
    if (storage.size() > size) storage.resize(size);
  } catch {
    // The first failure is the one to report.
  }
}
