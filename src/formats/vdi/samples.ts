import type { FormatSamples } from '../../image/samples.js';
import { brokenSamples, goodSamples, specimens } from './samples/catalogue.js';
import { writableSamples } from './samples/writable.js';

/** What the suites of all formats find of this one. */
export const samples: FormatSamples = {
  good: goodSamples,
  broken: brokenSamples,
  specimens,
  writable: writableSamples,
};
