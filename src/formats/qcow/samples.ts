import { deflate } from '../../codec/inflate.js';
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
import { BOUNDS, ENTRY_BYTES, encodeEntries, FIELDS } from './layout.js';
import { SampleImage, type SampleOptions } from './sample-image.js';

/** An image is told from qcow2 by its version alone. */
export const samples: FormatSamples = { good, broken, specimens, writable };

const VARIANTS: readonly (readonly [string, Omit<SampleOptions, 'size'>])[] = [
  ['4 KiB clusters', {}],
  ['shuffled', { shuffled: true }],
  ['as above a backing file', { clusterBits: 9, l2Bits: 12, backing: 'base.raw' }],
  ['smallest tables', { clusterBits: 9, l2Bits: 6, shuffled: true }],
  ['largest clusters, small tables', { clusterBits: 16, l2Bits: 6 }],
  ['encrypted', { encrypted: true }],
];

/** Data, holes, compressed clusters, several L2 tables and none, and an end that is no multiple of anything. */
function recipe(options: Omit<SampleOptions, 'size'>): SampleImage {
  const unit = 2 ** (options.clusterBits ?? 12);
  const table = unit * 2 ** (options.l2Bits ?? 9);
  const size = Math.min(table * 3, unit * 200) + unit * 9 + 100;
  const image = new SampleImage({ ...options, size }).write(0, pattern(unit * 3, 1));
  if (options.encrypted !== true) packed(image, [unit * 4, unit * 5]);
  return image
    .write(unit * 6, pattern(unit * 4, 3))
    .write(unit * 63, pattern(unit * 3, 4))
    .write(size - 100, pattern(100, 5));
}

/** Two clusters stored compressed. */
function packed(image: SampleImage, [one, two]: readonly [number, number]): void {
  const unit = image.clusterSize;
  image.pack(one, pattern(unit, 2).fill(33, unit / 4)).pack(two, new Uint8Array(unit).fill(7));
}

function good(): GoodSample[] {
  return VARIANTS.map(([name, options]) => {
    const image = recipe(options);
    const beside: readonly SampleFile[] = options.backing === undefined ? [] : [base(options.backing, 1)];
    return { name, image: image.build().image, beside, disk: image.plain(), snapshots: [] };
  });
}

/** A raw file of zeros below: what shows through is zeros with it and without. */
function base(name: string, size: number): SampleFile {
  return { name, role: 'base', format: 'raw', bytes: () => new Uint8Array(size) };
}

function specimens(): Specimen[] {
  return VARIANTS.filter(([, { clusterBits = 12, backing }]) => clusterBits < 16 && backing === undefined).map(
    ([name, options]) => {
      const image = recipe(options);
      const built = image.build();
      const fields: FieldPlace[] = [
        ...Object.entries(FIELDS).map(([field, place]) => ({ name: `header.${field}`, ...place, ...untouched(field) })),
        { name: 'l1[0]', at: built.l1At, bytes: ENTRY_BYTES },
        ...Array.from({ length: 10 }, (_, n): FieldPlace => {
          const at = (built.l2At.get(0) ?? 0) + n * ENTRY_BYTES;
          const touches = { start: n * image.clusterSize, length: image.clusterSize };
          return { name: `l2[${n}]`, at, bytes: ENTRY_BYTES, touches };
        }),
      ];
      return { name, image: built.image, disk: image.plain(), fields };
    },
  );
}

/** What nobody reads. */
function untouched(field: string): Pick<FieldPlace, 'touches'> {
  return field === 'modified' || field === 'padding' ? { touches: { start: 0, length: 0 } } : {};
}

type Value = readonly [field: keyof typeof FIELDS, value: number];

function broken(): BrokenSample[] {
  const damaged = (name: string, fails: 'open' | 'read', reason: Reason, ...values: readonly Value[]): BrokenSample => {
    const { image } = recipe({}).build();
    for (const [field, value] of values) put(image, FIELDS[field], value);
    return { name, image, fails, reason };
  };
  const entry = (name: string, at: 'l1At' | 'l2At', reason: Reason, high: number, low: number): BrokenSample => {
    const built = recipe({}).build();
    const place = at === 'l1At' ? built.l1At : (built.l2At.get(0) ?? 0);
    built.image.writeUInt32BE(high, place);
    built.image.writeUInt32BE(low, place + 4);
    return { name, image: built.image, fails: 'read', reason };
  };
  const { image } = recipe({}).build();
  const { clusterBits, l2Bits } = BOUNDS;
  return [
    damaged('clusters of 256 bytes', 'open', 'corrupt', ['clusterBits', clusterBits.least - 1]),
    damaged('clusters of 128 KiB', 'open', 'corrupt', ['clusterBits', clusterBits.most + 1]),
    damaged('L2 tables of 32 entries', 'open', 'corrupt', ['l2Bits', l2Bits.least - 1]),
    damaged('L2 tables of 16,384 entries', 'open', 'corrupt', ['l2Bits', l2Bits.most + 1]),
    damaged('a disk of one byte', 'open', 'corrupt', ['size', 1]),
    damaged('a disk beyond the limit', 'open', 'limit', ['size', 2 ** 52]),
    damaged('an L1 past the end', 'open', 'truncated', ['l1At', 2 ** 40]),
    damaged('an L1 longer than the file', 'open', 'truncated', ['size', 2 ** 40]),
    damaged('a backing name of 1024 bytes', 'open', 'limit', ['backingAt', 48], ['backingBytes', 1024]),
    damaged('a backing name past the end', 'open', 'truncated', ['backingAt', 2 ** 40], ['backingBytes', 5]),
    damaged('an unknown encryption method', 'open', 'unsupported', ['cryptMethod', 2]),
    entry('an L2 table past 2^53', 'l1At', 'corrupt', 2 ** 30, 0),
    entry('an L2 table past the end', 'l1At', 'truncated', 2 ** 10, 0),
    entry('a cluster between sectors', 'l2At', 'corrupt', 0, 5000),
    entry('a cluster past 2^53', 'l2At', 'corrupt', 2 ** 30, 0),
    entry('a stream of no bytes', 'l2At', 'corrupt', 2 ** 31, 4096),
    { name: 'a file of 40 bytes', image: image.subarray(0, 40), fails: 'open', reason: 'truncated' },
    {
      name: 'a stream of two clusters',
      image: new SampleImage({ size: 8192 }).pack(0, new Uint8Array(4096), deflate(new Uint8Array(8192))).build().image,
      fails: 'read',
      reason: 'corrupt',
    },
  ];
}

function put(image: Buffer, { at, bytes }: { readonly at: number; readonly bytes: number }, value: number): void {
  if (bytes === 8) image.set(encodeEntries(value, 1, 0), at);
  else image.writeUIntBE(value, at, bytes);
}

/** Each with data, holes and, where it may, compressed clusters; tables so small that there are several of them. */
function writable(): readonly WritableSample[] {
  return [
    sample('4 KiB clusters', {}),
    sample('above a backing file', { clusterBits: 9, l2Bits: 12, backing: 'base.raw' }),
    sample('small tables', { clusterBits: 9, l2Bits: 6, shuffled: true }, { units: 144, modelUnits: 512, oneIn: 2 }),
    sample('encrypted', { encrypted: true }, ENCRYPTED),
    sample(
      'encrypted, above a backing file',
      { clusterBits: 9, l2Bits: 12, backing: 'base.raw', encrypted: true },
      ENCRYPTED,
    ),
  ];
}

/** QEMU is given no passphrase. */
const ENCRYPTED: More = { qemu: 'nothing', wholeSectors: true };

type More = Pick<Partial<WritableSample>, 'units' | 'modelUnits' | 'oneIn' | 'qemu' | 'wholeSectors'>;

function sample(name: string, options: Omit<SampleOptions, 'size'>, more: More = {}): WritableSample {
  const unit = 2 ** (options.clusterBits ?? 12);
  const files = (units: number): readonly SampleFile[] => {
    const bytes = (): Uint8Array => {
      const image = new SampleImage({ ...options, size: units * unit }).write(0, pattern(unit * 2, 1));
      if (options.encrypted !== true) packed(image, [unit * 3, unit * 4]);
      return image.write(unit * (units - 3), pattern(unit * 2, 3)).build().image;
    };
    const below = (): Uint8Array => pattern(Math.floor(unit * units * 0.8), 6);
    const image: SampleFile = { name: 'disk.qcow', role: 'image', bytes };
    return options.backing === undefined
      ? [image]
      : [image, { name: options.backing, role: 'base', format: 'raw', bytes: below }];
  };
  const packs = options.encrypted === true ? {} : { packs: true as const };
  return {
    name,
    unit,
    files,
    resize: 'grow',
    ...packs,
    qemu: 'reads',
    loses: 'what compressed clusters leave behind',
    ...more,
  };
}
