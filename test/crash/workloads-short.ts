/**
 * All workloads of up to three operations from a small alphabet, on a small image with a history, at three cluster
 * sizes: most bugs that crashes have ever shown in file systems needed no more.
 */
import { Random } from '../support/seed.js';
import type { Operation } from './operations.js';
import { data, qcow2Start, RAW_BASE } from './starts.js';
import type { Workload } from './workload.js';

interface Letter {
  readonly name: string;
  readonly of: (unit: number, clusters: number) => Operation;
  /** Cannot be done twice: the snapshot it is about is gone. */
  readonly needs?: 'old';
  readonly ends?: 'old';
}

const LETTERS: readonly Letter[] = [
  { name: 'w', of: (u) => ({ do: 'write', at: u + u / 2, length: u / 2 }) },
  { name: 'x', of: (u) => ({ do: 'write', at: 3 * u - u / 2, length: 2 * u }) },
  { name: 'n', of: (u, clusters) => ({ do: 'write', at: (clusters - 2) * u, length: u / 2 }) },
  { name: 'z', of: (u) => ({ do: 'zero', at: u, length: u + u / 2 }) },
  { name: 'd', of: (u) => ({ do: 'discard', at: 0, length: 3 * u }) },
  { name: 's', of: () => ({ do: 'snapshot', name: 'new' }) },
  { name: 'k', of: () => ({ do: 'delete', name: 'old' }), needs: 'old', ends: 'old' },
  { name: 'a', of: () => ({ do: 'apply', name: 'old' }), needs: 'old' },
  { name: 'r', of: (u, clusters) => ({ do: 'resize', size: (clusters + 70) * u }) },
  { name: 'f', of: () => ({ do: 'flush' }) },
];

/** Cluster size, clusters of the disk (two L2 tables where that is cheap), and whether there is a backing file. */
const SIZES: readonly (readonly [bits: number, clusters: number, backed: boolean])[] = [
  [9, 72, false],
  [12, 24, true],
  [16, 12, false],
];

/** Every short workload, or a seeded sample of `count` of them. */
export function shortWorkloads(seed: number, count = Number.POSITIVE_INFINITY): readonly Workload[] {
  const all = words(3).flatMap((word) => SIZES.map((size) => ({ word, size })));
  if (count >= all.length) return all.map(({ word, size }) => workload(word, size));
  const random = new Random(seed);
  return Array.from({ length: count }, () => all.splice(random.below(all.length), 1)[0]!).map(({ word, size }) =>
    workload(word, size),
  );
}

function words(most: number): readonly (readonly Letter[])[] {
  let longest: readonly (readonly Letter[])[] = [[]];
  const all: (readonly Letter[])[] = [];
  for (let length = 1; length <= most; length++) {
    longest = longest.flatMap((word) => LETTERS.filter((letter) => fits(word, letter)).map((next) => [...word, next]));
    all.push(...longest);
  }
  return all;
}

/** Snapshot names are taken once; what is gone cannot be used. */
function fits(word: readonly Letter[], { name, needs }: Letter): boolean {
  if (name === 's' && word.some((before) => before.name === 's')) return false;
  return needs === undefined || !word.some(({ ends }) => ends === needs);
}

function workload(word: readonly Letter[], [bits, clusters, backed]: (typeof SIZES)[number]): Workload {
  const unit = 2 ** bits;
  const options = { size: clusters * unit, clusterBits: bits, ...(backed ? { backing: RAW_BASE } : {}) };
  const files = qcow2Start({
    options,
    fill: (image) => {
      data(image, 0, 2);
      image.snapshot('old');
      data(image, 1, 3, 0xbef0_0001);
    },
  });
  const operations = word.map(({ of }) => of(unit, clusters));
  const name = `short: ${word.map((letter) => letter.name).join('')} ${unit}${backed ? ' backed' : ''}`;
  return {
    name,
    format: 'qcow2',
    qemu: 'checks',
    files,
    operations: [...operations, { do: 'flush' }, { do: 'write', at: unit, length: 512 }],
  };
}
