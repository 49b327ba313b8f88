/** What each format offers to the suites that run over all of them. A format without offers says why. */

import {
  type BrokenSample,
  brokenSamples,
  type GoodSample,
  goodSamples,
} from '../../src/formats/qcow2/samples/catalogue.js';
import { type FieldPlace, type Specimen, specimens } from '../../src/formats/qcow2/samples/fields.js';
import { Random } from './seed.js';

export type { BrokenSample, FieldPlace, GoodSample, Specimen };

export interface Offer {
  good(): readonly GoodSample[];
  broken(): readonly BrokenSample[];
  /** Good images with a table of their fields. */
  specimens(): readonly Specimen[];
  /** Why truncated images are not damaged ones. */
  readonly wholeAtAnyLength?: string;
}

/** By format name. A driver without an entry here fails the conformance suite. */
export const offers: ReadonlyMap<string, Offer> = new Map<string, Offer>([
  ['qcow2', { good: goodSamples, broken: brokenSamples, specimens }],
  [
    'raw',
    {
      good: () => [1, 511, 512, 65_536, 100_001].map(rawSample),
      broken: () => [],
      specimens: () => [],
      wholeAtAnyLength: 'any bytes are a raw disk',
    },
  ],
]);

function rawSample(size: number): GoodSample {
  const disk = new Random(size).bytes(size);
  return { name: `${size} bytes`, image: disk, disk, snapshots: [] };
}
