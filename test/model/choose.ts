/** Chooses the next operation of a model run, always one that is possible. */
import type { Preallocation } from '../../src/image/image.js';
import type { Operation } from '../crash/operations.js';
import type { Random } from '../support/seed.js';
import type { Configuration } from './configurations.js';
import type { Model } from './model-run.js';

const MAX_SNAPSHOTS = 5;
const SECTOR = 512;

/** Kinds by weight: mostly writes, and everything else often enough to meet everything else. */
const WEIGHTS: readonly (readonly [Operation['do'], number])[] = [
  ['write', 560],
  ['zero', 110],
  ['discard', 110],
  ['flush', 70],
  ['publish', 40],
  ['snapshot', 25],
  ['delete', 20],
  ['apply', 12],
  ['rename', 10],
  ['resize', 23],
  ['reopen', 20],
];

/** By format; other formats have none. */
const PREALLOCATIONS: Readonly<Record<string, readonly Preallocation[]>> = {
  raw: ['falloc', 'full'],
  qcow2: ['metadata', 'falloc', 'full'],
};

/** A possible operation. */
export function choose(model: Model, configuration: Configuration, random: Random): Operation {
  const kind = weighted(random);
  switch (kind) {
    case 'write':
      return {
        do: 'write',
        ...range(model, configuration, random),
        zeros: random.below(12) === 0,
        packed: random.below(4) === 0,
      };
    case 'zero':
    case 'discard':
      return { do: kind, ...range(model, configuration, random) };
    case 'resize':
      if (!mayResize(model, configuration)) return { do: 'flush' };
      return {
        do: 'resize',
        size: newSize(model, configuration, random),
        preallocation: random.pick(['off', ...(PREALLOCATIONS[configuration.format] ?? [])]),
      };
    case 'flush':
    case 'publish':
    case 'reopen':
      return { do: kind };
    default:
      return configuration.snapshots ? ofSnapshots(kind, model, random) : { do: 'flush' };
  }
}

function weighted(random: Random): Operation['do'] {
  let left = random.below(WEIGHTS.reduce((sum, [, weight]) => sum + weight, 0));
  for (const [kind, weight] of WEIGHTS) {
    if (left < weight) return kind;
    left -= weight;
  }
  return 'flush';
}

function ofSnapshots(kind: 'snapshot' | 'delete' | 'apply' | 'rename', model: Model, random: Random): Operation {
  const names = [...model.snapshots.keys()];
  if (kind === 'snapshot' && names.length < MAX_SNAPSHOTS) return { do: 'snapshot', name: fresh(names, random) };
  if (names.length === 0) return { do: 'publish' };
  const name = random.pick(names);
  if (kind === 'rename') return { do: 'rename', name, to: fresh(names, random) };
  return { do: kind === 'apply' ? 'apply' : 'delete', name };
}

function fresh(names: readonly string[], random: Random): string {
  const letters = 'abcdefghijklmnopqrstuvwxyz'.repeat(1 + random.below(5));
  for (;;) {
    const name = letters.slice(0, 1 + random.below(letters.length)) + random.below(1000);
    if (!names.includes(name)) return name;
  }
}

/** Sectors, whole units, and bytes that are neither; near and across the edges of units. */
function range(model: Model, { unit }: Configuration, random: Random): { at: number; length: number } {
  const grain = random.pick([1, SECTOR, SECTOR, unit]);
  const longest = random.pick([SECTOR, unit, unit, 3 * unit, 9 * unit]);
  const at = Math.min(model.size, grain * random.below(Math.floor(model.size / grain) + 1));
  const length = Math.ceil((1 + random.below(longest)) / grain) * grain;
  return { at, length: Math.min(length, model.size - at) };
}

function mayResize({ snapshots }: Model, { resize }: Configuration): boolean {
  return resize === 'without snapshots' ? snapshots.size === 0 : resize !== 'never';
}

function newSize(model: Model, { most, unit, resize }: Configuration, random: Random): number {
  const least = resize === 'grow' ? model.size : Math.min(model.size, 8 * unit);
  const sectors = Math.floor((most - least) / SECTOR);
  return least + SECTOR * random.below(sectors + 1);
}
