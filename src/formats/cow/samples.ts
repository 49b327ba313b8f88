import { pattern } from '../../image/sample-bytes.js';
import type {
  BrokenSample,
  FieldPlace,
  FormatSamples,
  GoodSample,
  SampleFile,
  Specimen,
  WritableSample,
} from '../../image/samples.js';
import type { Reason } from '../../lib/errors.js';
import { geometryOf } from './header.js';
import {
  LAYOUTS,
  type Layout,
  QEMU,
  QEMU_I386,
  SECTOR,
  UML_V1_LITTLE,
  UML_V2,
  UML_V3,
  UML_V3_UNPACKED,
} from './layout.js';
import { SampleImage, type SampleOptions } from './sample-image.js';

export const samples: FormatSamples = { good, broken, specimens, writable };

const BASE = 'base.raw';

/** Stored sectors alone and in runs, at both ends; where the layout allows it, an end inside a sector. */
function recipe(layout: Layout, more: Partial<SampleOptions> = {}): SampleImage {
  const sector = more.sectorSize ?? SECTOR;
  const uml = layout.variant.startsWith('uml');
  const { size = sector * 299 + (uml ? 100 : sector) } = more;
  return new SampleImage({ layout, ...(uml ? { backing: BASE } : {}), ...more, size })
    .write(0, pattern(sector, 1))
    .write(sector * 3, pattern(sector * 20, 2))
    .write(sector * 64, pattern(sector * 64, 3))
    .write(sector * 299, pattern(size - sector * 299, 4));
}

function good(): GoodSample[] {
  const named = (name: string, image: SampleImage): GoodSample => {
    const disk = image.plain();
    // Zeros below: what shows through is zeros with it and without.
    return { name, image: image.build(), beside: [below(() => new Uint8Array(disk.length))], disk, snapshots: [] };
  };
  return [
    ...LAYOUTS.map((layout) =>
      named(`${layout.variant}${layout.littleEndian ? ', little-endian' : ''}`, recipe(layout)),
    ),
    named('larger sectors', recipe(UML_V3, { sectorSize: 4096 })),
    named('bitmap and sectors aligned to 64 KiB', recipe(UML_V3_UNPACKED, { alignment: 65_536 })),
    named('nothing stored', new SampleImage({ layout: QEMU, size: SECTOR * 9 })),
    named('a guest that writes what another layout has', alike()),
    named('i386, with a bitmap that another layout has', onlySector17()),
  ];
}

/** Sector 5 of the disk lies where User Mode Linux's second version has its sector size. */
function alike(): SampleImage {
  const sector = pattern(SECTOR, 7);
  sector.set([0, 0, 2, 0], 20);
  return new SampleImage({ layout: QEMU, size: SECTOR * 100 }).write(SECTOR * 5, sector);
}

/** The first four bytes of its bitmap read 512, as the sector size does on 64-bit hosts. */
function onlySector17(): SampleImage {
  return new SampleImage({ layout: QEMU_I386, size: 2 ** 17 }).write(SECTOR * 17, pattern(SECTOR, 8));
}

function below(bytes: () => Uint8Array): SampleFile {
  return { name: BASE, role: 'base', format: 'raw', bytes };
}

function specimens(): Specimen[] {
  return [QEMU, UML_V1_LITTLE, UML_V3].map((layout) => {
    const image = recipe(layout, { size: SECTOR * 300 });
    const disk = image.plain();
    return {
      name: layout.variant,
      image: image.build(),
      beside: [below(() => new Uint8Array(disk.length))],
      disk,
      fields: fieldsOf(layout),
      notForQemu: 'it has dropped the format',
    };
  });
}

function fieldsOf(layout: Layout): FieldPlace[] {
  const field = (name: string, at: number | undefined, bytes: FieldPlace['bytes'], touches?: FieldPlace['touches']) =>
    at === undefined ? [] : [{ name, at, bytes, ...order, ...(touches === undefined ? {} : { touches }) }];
  const order: Pick<FieldPlace, 'littleEndian'> = layout.littleEndian ? { littleEndian: true } : {};
  const { bitmapAt } = geometryOf(layout, {
    ...NO_FIELDS,
    alignment: layout.alignment === undefined ? undefined : 4096,
  });
  return [
    ...field('magic', 0, 4),
    ...field('version', 4, 4),
    ...field('modified', layout.modified, 4, { start: 0, length: 0 }),
    ...field('size', layout.size, 8),
    ...field('sectorSize', layout.sectorSize, 4),
    ...field('alignment', layout.alignment, 4),
    ...field('kind', layout.kind, 4),
    ...[0, 1, 5, 37].flatMap((byte) =>
      field(`bitmap[${byte}]`, bitmapAt + byte, 1, { start: byte * 8 * SECTOR, length: 8 * SECTOR }),
    ),
  ];
}

const NO_FIELDS = { name: Buffer.alloc(0), modified: 0, size: 0, sectorSize: SECTOR, kind: undefined };

function broken(): BrokenSample[] {
  const damaged = (name: string, layout: Layout, reason: Reason, ...words: readonly (readonly [number, number])[]) => {
    const image = recipe(layout).build();
    for (const [at, value] of words) image.writeUInt32BE(value, at);
    return { name, image, beside: [below(() => new Uint8Array(0))], fails: 'open' as const, reason };
  };
  const { alignment = 0, kind = 0 } = UML_V3;
  return [
    damaged('version 4', QEMU, 'unsupported', [4, 4]),
    damaged('a header that nobody writes', QEMU, 'corrupt', [QEMU.sectorSize, 513]),
    damaged('a disk beyond the limit', QEMU, 'limit', [QEMU.size, 2 ** 20]),
    damaged('a disk of 2^63 bytes', QEMU, 'corrupt', [QEMU.size, 2 ** 31]),
    damaged('a bitmap past the end', QEMU, 'truncated', [QEMU.size, 1]),
    damaged('sectors of 1000 bytes', UML_V3, 'corrupt', [UML_V3.sectorSize, 1000]),
    damaged('sectors of 128 KiB', UML_V3, 'corrupt', [UML_V3.sectorSize, 2 ** 17]),
    damaged('no alignment', UML_V3, 'corrupt', [alignment, 0]),
    damaged('an alignment of 100 bytes', UML_V3, 'corrupt', [alignment, 100]),
    damaged('an alignment of 2 MiB', UML_V3, 'limit', [alignment, 2 ** 21]),
    damaged('another kind of image', UML_V3, 'unsupported', [kind, 1]),
    // 488 bytes of bitmap and one forgotten one, which would be the first of sector 0.
    { ...damaged('a bitmap too short', UML_V2, 'unsupported'), image: forgotten() },
    { ...damaged('a file of 7 bytes', QEMU, 'truncated'), image: recipe(QEMU).build().subarray(0, 7) },
    {
      ...damaged('a file of 279 bytes', UML_V1_LITTLE, 'truncated'),
      image: recipe(UML_V1_LITTLE).build().subarray(0, 279),
    },
  ];
}

function forgotten(): Buffer {
  return new SampleImage({ layout: UML_V2, size: 3905 * SECTOR, backing: BASE }).build();
}

/** Each with stored sectors in the units' beginning and end. */
function writable(): readonly WritableSample[] {
  return [
    sample('QEMU', { layout: QEMU }),
    sample('QEMU, above a backing file', { layout: QEMU, backing: BASE }),
    sample('User Mode Linux, version 3', { layout: UML_V3, backing: BASE }),
  ];
}

function sample(name: string, options: Omit<SampleOptions, 'size'>): WritableSample {
  const files = (units: number): readonly SampleFile[] => {
    const size = units * SECTOR;
    const bytes = (): Uint8Array =>
      new SampleImage({ ...options, size })
        .write(SECTOR, pattern(SECTOR * 2, 1))
        .write(SECTOR * (units - 3), pattern(SECTOR * 2, 2))
        .build();
    const image: SampleFile = { name: 'disk.cow', role: 'image', bytes };
    return options.backing === undefined ? [image] : [image, below(() => pattern(size, 6))];
  };
  return { name, unit: SECTOR, files, modelUnits: 600, qemu: 'nothing' };
}
