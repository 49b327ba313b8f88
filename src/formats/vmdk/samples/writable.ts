/** Images that crash, fault and model runs begin with. */
import type { SampleFile, WritableSample } from '../../../image/samples.js';
import { SECTOR } from '../layout.js';
import { pattern, textOf } from './catalogue.js';
import { SampleExtent, type SparseOptions } from './sparse.js';

const GRAIN = 4096;

export function writableSamples(): WritableSample[] {
  return [
    sparse('monolithicSparse', {}),
    sparse('zeroed grains, small tables', { zeroGrains: true, version: 2, entriesPerTable: 128, grainSectors: 2 }),
    sparse('tables made when needed', { lazyTables: true, entriesPerTable: 128, grainSectors: 1 }),
    delta('a delta', {}),
    delta('a delta with zeroed grains', { zeroGrains: true, version: 2 }),
    cowd(),
    split('twoGbMaxExtentSparse', 0),
    split('extents that end inside a grain', 1024),
    flat(),
  ];
}

function image(bytes: () => Uint8Array): SampleFile {
  return { name: 'disk.vmdk', role: 'image', bytes };
}

/** Data, a hole, more data; the rest is empty. */
function started(options: SparseOptions, salt: number): SampleExtent {
  const extent = new SampleExtent(options);
  const unit = extent.grainSize;
  extent.write(unit, pattern(unit * 2, salt)).write(unit * 4, pattern(unit, salt + 1));
  if (options.zeroGrains === true) extent.zero(unit * 5);
  return extent;
}

function sparse(name: string, options: Partial<SparseOptions>): WritableSample {
  const unit = (options.grainSectors ?? 8) * SECTOR;
  const text = textOf('monolithicSparse', ['RW 1 SPARSE "disk.vmdk"']);
  return {
    name,
    unit,
    files: (units) => [image(() => started({ size: units * unit, text, ...options }, 1).build().image)],
    resize: 'grow',
    qemu: 'checks',
  };
}

/** Tables are made when needed, which QEMU cannot do; what it is asked to read and to check, it can. */
function cowd(): WritableSample {
  return {
    name: 'vmfsSparse',
    unit: SECTOR,
    files: (units) => {
      const size = units * SECTOR;
      const extent = started({ size, kind: 'cowd', grainSectors: 1, lazyTables: true, shuffle: 3 }, 3);
      return [
        image(() => Buffer.from(textOf('vmfsSparse', [`RW ${units} VMFSSPARSE "disk-delta.vmdk"`]))),
        { name: 'disk-delta.vmdk', role: 'part', bytes: () => extent.build().image },
      ];
    },
    qemu: 'checks',
  };
}

function delta(name: string, options: Partial<SparseOptions>): WritableSample {
  return {
    name,
    unit: GRAIN,
    files: (units) => {
      const size = units * GRAIN;
      const below = textOf('monolithicSparse', [`RW ${size / SECTOR} SPARSE "base.vmdk"`]);
      const parentCid = Number.parseInt(/CID=(\w+)/.exec(below)?.[1] ?? '', 16);
      const text = textOf('monolithicSparse', [`RW ${size / SECTOR} SPARSE "disk.vmdk"`], 'base.vmdk', parentCid);
      const base = new SampleExtent({ size, text: below }).write(0, pattern(size - 2 * GRAIN, 7));
      return [
        image(() => started({ size, text, ...options }, 5).build().image),
        { name: 'base.vmdk', role: 'base', format: 'vmdk', bytes: () => base.build().image },
      ];
    },
    qemu: 'checks',
  };
}

/** Two extents, of which the first is `cut` bytes short of whole grains: QEMU then reads on in the rest of that grain. */
function split(name: string, cut: number): WritableSample {
  return {
    name,
    unit: GRAIN,
    files: (units) => {
      const sizes = [6 * GRAIN - cut, (units - 6) * GRAIN + cut];
      const lines = sizes.map((size, n) => `RW ${size / SECTOR} SPARSE "disk-s00${n + 1}.vmdk"`);
      return [
        image(() => Buffer.from(textOf('twoGbMaxExtentSparse', lines))),
        ...sizes.map((size, n): SampleFile => {
          const bytes = (): Uint8Array => started({ size, shuffle: n + 1 }, n).build().image;
          return { name: `disk-s00${n + 1}.vmdk`, role: 'part', bytes };
        }),
      ];
    },
    qemu: cut === 0 ? 'checks' : 'nothing',
  };
}

function flat(): WritableSample {
  return {
    name: 'monolithicFlat',
    unit: GRAIN,
    files: (units) => [
      image(() => Buffer.from(textOf('monolithicFlat', [`RW ${(units * GRAIN) / SECTOR} FLAT "disk-flat.vmdk" 0`]))),
      { name: 'disk-flat.vmdk', role: 'part', bytes: () => pattern(units * GRAIN, 9) },
    ],
    resize: 'grow',
    qemu: 'checks',
  };
}
