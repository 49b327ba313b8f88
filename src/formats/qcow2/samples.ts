import type { FormatSamples } from '../../image/samples.js';
import { brokenSamples, goodSamples } from './samples/catalogue.js';
import { encryptedSamples } from './samples/encrypted.js';
import { specimens } from './samples/fields.js';

/** Other workloads on qcow2 images are written by hand: they are about snapshots and refcounts. */
export const samples: FormatSamples = {
  good: goodSamples,
  broken: brokenSamples,
  specimens,
  writable: encryptedSamples,
};
