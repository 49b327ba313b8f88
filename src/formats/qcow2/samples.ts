import type { FormatSamples } from '../../image/samples.js';
import { brokenSamples, goodSamples } from './samples/catalogue.js';
import { specimens } from './samples/fields.js';

/** Workloads on qcow2 images are written by hand: they are about snapshots and refcounts. */
export const samples: FormatSamples = { good: goodSamples, broken: brokenSamples, specimens };
