/** Workloads of every format that brings images to write to: the same operations, in the units of each. */
import type { WritableSample } from '../../src/image/samples.js';
import { imageFormats, samplesOf } from '../support/samples.js';
import { alphabet, everything } from './alphabet.js';
import type { Operation } from './operations.js';
import type { Workload } from './workload.js';

const UNITS = 16;

/** One sample of a format after the other. */
export const sampleWorkloads: readonly Workload[] = imageFormats.flatMap(({ name }) =>
  (samplesOf(name).writable?.() ?? []).flatMap((sample) => workloadsOf(name, sample)),
);

function workloadsOf(format: string, sample: WritableSample): readonly Workload[] {
  const { unit, units = UNITS, qemu, loses, oneIn, resize, growsGradually, wholeSectors } = sample;
  const named = (what: string, operations: readonly Operation[]): Workload => ({
    name: `${format}: ${what}, ${sample.name}`,
    format,
    files: sample.files(units),
    operations,
    qemu,
    loses,
    growsGradually,
    wholeSectors,
    ...(oneIn === undefined ? {} : { oneIn }),
  });
  const sizes = resize === undefined ? [] : [named('sizes', resizing(unit, units, resize))];
  const packed = sample.packs === true ? [named('packing', packing(unit, units))] : [];
  return [named('everything', everything(unit, units)), named('growing', growing(unit, units)), ...sizes, ...packed];
}

/** Units stored packed, over everything there is and over each other, between others that are not. */
function packing(unit: number, units: number): readonly Operation[] {
  const { w, c, d } = alphabet(unit);
  const half = units / 2;
  return [
    c(half, 3),
    { do: 'flush' },
    c(0, 5),
    w(half + 0.5, 0.25),
    c(half + 1, 1),
    { do: 'publish' },
    c(half + 3, 2),
    w(half + 2, 2),
    c(half + 3, 1),
    d(half + 4, 1),
    { do: 'flush' },
    c(2, 1),
    c(2, 1),
    w(2.5, 0.5),
    { do: 'reopen' },
    c(units - 3, 3),
    w(1, 2),
  ];
}

/** Sequential writes of many units and of parts of one, as an installation makes them. */
function growing(unit: number, units: number): readonly Operation[] {
  const { w } = alphabet(unit);
  const half = units / 2;
  return [
    w(half, 0.5),
    w(half + 0.5, 0.5),
    w(half + 1, 3),
    { do: 'flush' },
    w(half + 4, 0.25),
    { do: 'publish' },
    w(0, half),
    { do: 'flush' },
    w(half + 4.25, 1.5),
    w(half + 6, 2),
  ];
}

function resizing(unit: number, units: number, resize: 'both' | 'grow'): readonly Operation[] {
  const { w, s } = alphabet(unit);
  const larger: readonly Operation[] = [
    w(units - 1, 1),
    s(units + 5),
    w(units + 3, 1.5),
    { do: 'flush' },
    s(units * 4),
    w(units * 4 - 3, 2),
    { do: 'reopen' },
    w(units * 2, 1),
  ];
  const smaller: readonly Operation[] = [
    s(units * 2),
    w(units * 2 - 1, 1),
    { do: 'flush' },
    s(units / 2),
    w(0, 1),
    s(units),
    w(units - 2, 1),
  ];
  return resize === 'both' ? [...larger, ...smaller] : larger;
}
