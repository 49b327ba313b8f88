/** What the suites that run over all formats take from this one. */
import type { FormatSamples } from '../../image/samples.js';
import { brokenSamples, goodSamples } from './samples/catalogue.js';
import { specimens } from './samples/fields.js';
import { writableSamples } from './samples/writable.js';

export const samples: FormatSamples = {
  good: goodSamples,
  broken: brokenSamples,
  specimens,
  writable: writableSamples,
};
