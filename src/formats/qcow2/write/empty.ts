import { countTree } from './table-walk.js';
import type { Volume } from './volume.js';

/**
 * Gives up everything the disk refers to, in one step; what snapshots refer to stays. What lies in a data file is given
 * back when nothing leads to it any more.
 */
export function empty(volume: Volume): void {
  volume.change((change) => {
    const { words } = volume.l1;
    countTree(volume, change, words, -1);
    return change.putL1(new Uint32Array(words.length));
  });
  if (volume.live.now.external) volume.data.discard(0, volume.data.size());
}
