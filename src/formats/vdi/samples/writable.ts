import type { SampleFile, WritableSample } from '../../../image/samples.js';
import { build, type Entry, pattern, type SampleOptions } from './build.js';
import { named } from './catalogue.js';

const BLOCK = 4096;
const MIB = 1024 * 1024;
/** Entries with which the blocks of the first version begin at a whole sector, as they never must. */
const OLD_BLOCKS = 151;

type Shape = Omit<SampleOptions, 'size' | 'blockSize' | 'entries'> & { readonly blockSize?: number };

/** The image first: its entries are `entry` of each block. */
function file(units: number, shape: Shape, entry: (n: number) => Entry, blocks = units): SampleFile {
  const blockSize = shape.blockSize ?? BLOCK;
  const entries = Array.from({ length: blocks }, (_, n) => (n < units ? entry(n) : 'free'));
  const options: SampleOptions = { ...shape, size: units * blockSize, blockSize, entries };
  const bytes = (): Uint8Array => build(options, pattern(units * blockSize, 9));
  return { name: 'disk.vdi', role: 'image', bytes };
}

/** Every fourth block is stored, in an order of its own; of the others some are discarded. */
function sparse(units: number): (n: number) => Entry {
  const stored = Math.ceil(units / 4);
  return (n) => (n % 4 === 0 ? stored - 1 - n / 4 : n % 8 === 3 ? 'zero' : 'free');
}

function sample(name: string, shape: Shape, more: Partial<WritableSample> = {}): WritableSample {
  const files = (units: number): readonly SampleFile[] => [file(units, shape, sparse(units))];
  return { name, unit: shape.blockSize ?? BLOCK, files, resize: 'both', qemu: 'nothing', ...more };
}

const PARENT = { uuid: 81, modified: 82 };

/** Images that workloads begin with. QEMU is asked only about those it knows, with blocks of 1 MiB. */
export function writableSamples(): readonly WritableSample[] {
  return [
    sample('blocks of 4 KiB', {}),
    sample('blocks of 4 KiB, with bytes in front', { blockExtra: 512 }),
    {
      ...sample('a map without room', {}),
      files: (units) => [file(units, { mapAt: 2048 - 4 * units, dataAt: 2048 }, sparse(units))],
    },
    {
      ...sample('static', { type: 'static' }),
      files: (units) => [file(units, { type: 'static' }, (n) => n)],
    },
    {
      ...sample('differencing', {}),
      files: (units) => [
        file(units, { type: 'differencing', link: PARENT.uuid, parentModified: PARENT.modified }, sparse(units)),
        named(PARENT.uuid, () => file(units, PARENT, (n) => (n % 3 === 0 ? 'free' : n)).bytes()),
      ],
    },
    {
      name: 'of the first version',
      unit: BLOCK,
      qemu: 'nothing',
      files: (units) => [file(units, { old: true }, sparse(units), OLD_BLOCKS)],
    },
    // The only ones QEMU knows. States of many whole blocks would cost more than they tell.
    {
      name: 'blocks of 1 MiB',
      unit: MIB / 16,
      qemu: 'checks closed',
      units: 48,
      oneIn: 10,
      files: (units) => [file(units / 16, { blockSize: MIB }, (n) => (n === 1 ? 0 : 'free'))],
    },
  ];
}
