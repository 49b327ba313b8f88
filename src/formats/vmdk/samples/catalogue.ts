/** Ready-made images: good ones with what they must read as, and broken ones. */
import type { BrokenSample, GoodSample, SampleFile } from '../../../image/samples.js';
import { descriptorText } from '../descriptor-text.js';
import { SECTOR } from '../layout.js';
import { type BuiltExtent, SampleExtent, type SparseOptions } from './sparse.js';

const CID = 305_441_741;

/** Bytes that differ from place to place. */
export function pattern(length: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = salt;
  for (let i = 0; i < length; i++) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    bytes[i] = Math.floor(state / 2 ** 24);
  }
  return bytes;
}

/** A descriptor's text with the usual lines around the extents. */
export function textOf(createType: string, extents: readonly string[], parent?: string, parentCid = CID): string {
  return descriptorText({
    cid: CID + 1,
    createType,
    extents,
    parent: parent === undefined ? undefined : { cid: parentCid, name: parent },
    data: [['adapterType', 'ide']],
  });
}

/** An extent with data, holes and (where it can say so) zeros, and an end that is no multiple of its grains. */
export function filled(options: SparseOptions, salt = 1): SampleExtent {
  const extent = new SampleExtent(options);
  const unit = extent.grainSize;
  const last = Math.floor((options.size - 1) / unit);
  extent.write(0, pattern(unit * 2, salt)).write(unit * 5, pattern(unit, salt + 1).fill(7, unit / 4));
  extent.write(last * unit, pattern(options.size - last * unit, salt + 2));
  if (last > 140) extent.write(unit * 128, pattern(unit * 3, salt + 3));
  if (options.zeroGrains === true || options.kind === 'sesparse') extent.zero(unit * 3).zero(unit * 6);
  return extent;
}

type Variant = readonly [name: string, options: SparseOptions, damage?: (built: BuiltExtent) => void];

const MONOLITHIC = textOf('monolithicSparse', ['RW 100 SPARSE "disk.vmdk"']);
const STREAM = textOf('streamOptimized', ['RDONLY 100 SPARSE "call-me-stream.vmdk"']);

const VARIANTS: readonly Variant[] = [
  ['monolithicSparse', { size: 64 * 1024 * 9 + 1024, grainSectors: 128, text: MONOLITHIC }],
  ['zeroed grains, shuffled', { size: 40_960 + 512, text: MONOLITHIC, version: 2, zeroGrains: true, shuffle: 3 }],
  ['version 3', { size: 65_536, text: MONOLITHIC, version: 3, shuffle: 5 }],
  [
    'many small tables, some missing',
    { size: 512 * 700, grainSectors: 1, entriesPerTable: 128, text: MONOLITHIC, shuffle: 7, lazyTables: true },
  ],
  ['without redundant tables', { size: 65_536, text: MONOLITHIC, redundant: false }],
  ['without a descriptor', { size: 65_536 }],
  ['left open by its writer', { size: 65_536, text: MONOLITHIC, unclean: true }],
  [
    'first directory past the end',
    { size: 65_536, text: MONOLITHIC, shuffle: 9 },
    ({ image }) => image.writeUInt32LE(4_000_000, 56),
  ],
  [
    'first entry of the first directory past the end',
    { size: 65_536, text: MONOLITHIC, shuffle: 9 },
    ({ image, directoryAt }) => image.writeUInt32LE(4_000_000, directoryAt),
  ],
  [
    'streamOptimized',
    { size: 65_536 + 512, text: STREAM, version: 3, compressed: 'markers', footer: true, lazyTables: true },
  ],
  ['compressed, tables in front', { size: 65_536 + 512, text: STREAM, version: 3, compressed: 'markers' }],
  ['compressed without markers', { size: 65_536 + 512, text: STREAM, compressed: 'bare' }],
  ['COWD', { size: 65_536 + 512, kind: 'cowd', grainSectors: 1, shuffle: 11 }],
  ['COWD, larger grains, a missing table', { size: 512 * 8 * 4096 + 4096, kind: 'cowd', lazyTables: true }],
  ['seSparse', { size: 65_536 + 512, kind: 'sesparse', shuffle: 13 }],
];

export function goodSamples(): GoodSample[] {
  return [...VARIANTS.map((variant) => goodExtent(...variant)), sectorOne(), ...described()];
}

function goodExtent(name: string, options: SparseOptions, damage: (built: BuiltExtent) => void = () => {}): GoodSample {
  const extent = filled(options);
  const built = extent.build();
  damage(built);
  return { name, image: built.image, disk: extent.plain(), snapshots: [] };
}

/** Without the flag an entry of 1 is a place like any other. */
function sectorOne(): GoodSample {
  const extent = new SampleExtent({ size: 4096, grainSectors: 1 });
  const { image, tablesAt, copiesAt } = extent.build();
  const disk = Buffer.alloc(4096);
  disk.fill(66, SECTOR, 2 * SECTOR);
  image.fill(66, SECTOR, 2 * SECTOR);
  for (const at of [tablesAt.get(0), copiesAt.get(0)]) image.writeUInt32LE(1, (at ?? 0) + 4);
  return { name: 'an entry of 1 without the flag', image, disk, snapshots: [] };
}

function part(name: string, image: Uint8Array): SampleFile {
  return { name, role: 'part', bytes: () => image };
}

/** Disks whose descriptor is a file of its own. */
function described(): GoodSample[] {
  return [split(), mixed(), delta(), inEmptyExtent(), foreign()];
}

function split(): GoodSample {
  const extents = [1, 2].map((n) => filled({ size: 36_864, shuffle: n }, n * 9));
  const lines = extents.map((_, n) => `RW 72 SPARSE "disk-s00${n + 1}.vmdk"`);
  return {
    name: 'twoGbMaxExtentSparse',
    image: Buffer.from(textOf('twoGbMaxExtentSparse', lines)),
    beside: extents.map((extent, n) => part(`disk-s00${n + 1}.vmdk`, extent.build().image)),
    disk: Buffer.concat(extents.map((extent) => extent.plain())),
    snapshots: [],
  };
}

/** Every kind of extent, each at an odd place; line ends, case and spaces as other programs write them. */
function mixed(): GoodSample {
  const flat = pattern(20_000, 3);
  const hosted = filled({ size: 36_864, shuffle: 4 }, 20);
  const cowd = filled({ size: 10_240, kind: 'cowd', grainSectors: 1, shuffle: 5 }, 30);
  const seSparse = filled({ size: 36_864, kind: 'sesparse', shuffle: 6 }, 40);
  const text = [
    '#comment',
    'VERSION = 1',
    'encoding="UTF-8"',
    ' Cid = 0000abcd ',
    'PARENTCID=ffffffff',
    'CreateType = "CUSTOM"',
    'anything else',
    'RW 7 FLAT "flat.vmdk" 3',
    'rdonly 72 SPARSE "sparse.vmdk"',
    'RW 5 ZERO',
    '\tRW 20  VMFSSPARSE  "cowd.vmdk"',
    'RW 72 SESPARSE "se.vmdk"',
    'RW 2 FLAT "flat.vmdk" 0',
    'ddb.comment = "it = is"',
  ].join('\r\n');
  return {
    name: 'custom, extents of every kind',
    image: Buffer.from(text),
    beside: [
      part('flat.vmdk', flat),
      part('sparse.vmdk', hosted.build().image),
      part('cowd.vmdk', cowd.build().image),
      part('se.vmdk', seSparse.build().image),
    ],
    disk: Buffer.concat([
      flat.subarray(3 * SECTOR, 10 * SECTOR),
      hosted.plain(),
      Buffer.alloc(5 * SECTOR),
      cowd.plain(),
      seSparse.plain(),
      flat.subarray(0, 2 * SECTOR),
    ]),
    snapshots: [],
  };
}

/** The parent shows where the delta has holes, not where it has zeros. */
function delta(): GoodSample {
  const below = filled({ size: 65_536, text: MONOLITHIC, shuffle: 2 }, 50);
  const text = textOf('monolithicSparse', ['RW 128 SPARSE "delta.vmdk"'], 'base.vmdk', CID + 1);
  const top = new SampleExtent({ size: 65_536, text, version: 2, zeroGrains: true });
  top.write(4096, pattern(4096, 60)).zero(0);
  const disk = below.plain();
  disk.fill(0, 0, 4096).set(pattern(4096, 60), 4096);
  const base: SampleFile = { name: 'base.vmdk', role: 'base', format: 'vmdk', bytes: () => below.build().image };
  return { name: 'a delta', image: top.build().image, beside: [base], disk, snapshots: [] };
}

/** A sparse extent without size that only carries a text. */
function inEmptyExtent(): GoodSample {
  const text = textOf('monolithicFlat', ['RW 4 FLAT "disk-flat.vmdk" 0']);
  const disk = pattern(2048, 8);
  const image = new SampleExtent({ size: 0, text }).build().image;
  return { name: 'a text in an empty extent', image, beside: [part('disk-flat.vmdk', disk)], disk, snapshots: [] };
}

/** Names in another encoding than the host's. */
function foreign(): GoodSample {
  const disk = pattern(1024, 9);
  const name = Buffer.from([131, 116, 131, 137, 131, 98, 131, 103]);
  const text = Buffer.concat([
    Buffer.from(
      '# Disk DescriptorFile\nversion=1\nencoding="Shift_JIS"\nCID=1\nparentCID=ffffffff\ncreateType="vmfs"\nRW 2 VMFS "',
    ),
    name,
    Buffer.from('.vmdk"\n'),
  ]);
  const read = `${new TextDecoder('shift_jis').decode(name)}.vmdk`;
  return { name: 'names in Shift_JIS', image: text, beside: [part(read, disk)], disk, snapshots: [] };
}

/** Images each wrong in one way. */
export function brokenSamples(): BrokenSample[] {
  return [...brokenExtents(), ...brokenTexts(), ...brokenParts()];
}

function damaged(
  name: string,
  fails: BrokenSample['fails'],
  reason: BrokenSample['reason'],
  damage: (built: BuiltExtent) => void,
  options: Partial<SparseOptions> = {},
): BrokenSample {
  const built = filled({ size: 65_536, text: MONOLITHIC, ...options }).build();
  damage(built);
  return { name, image: built.image, fails, reason };
}

function brokenExtents(): BrokenSample[] {
  const stream: Partial<SparseOptions> = { text: STREAM, compressed: 'markers', footer: true };
  return [
    damaged('version 4', 'open', 'unsupported', ({ image }) => image.writeUInt32LE(4, 4)),
    damaged('version 0', 'open', 'unsupported', ({ image }) => image.writeUInt32LE(0, 4)),
    damaged('grains without sectors', 'open', 'corrupt', ({ image }) => image.writeUInt32LE(0, 20)),
    damaged('grains of 3 sectors', 'open', 'unsupported', ({ image }) => image.writeUInt32LE(3, 20)),
    damaged('grains of 2 GiB', 'open', 'limit', ({ image }) => image.writeUInt32LE(2 ** 22, 20)),
    damaged('tables without entries', 'open', 'corrupt', ({ image }) => image.writeUInt32LE(0, 44)),
    damaged('tables of 513 entries', 'open', 'limit', ({ image }) => image.writeUInt32LE(513, 44)),
    damaged('a disk of 8 EiB', 'open', 'corrupt', ({ image }) => image.fill(255, 12, 19)),
    damaged('a disk of 4 PiB', 'open', 'limit', ({ image }) => image.writeUInt32LE(2048, 16)),
    damaged('a descriptor of 1 MiB', 'open', 'limit', ({ image }) => image.writeUInt32LE(2048, 36)),
    damaged('a descriptor past the end', 'open', 'truncated', ({ image }) => image.writeUInt32LE(9999, 28)),
    damaged('a first grain past the end', 'open', 'truncated', ({ image }) => image.writeUInt32LE(9999, 64)),
    damaged('unknown compression', 'open', 'unsupported', ({ image }) => image.writeUInt16LE(2, 77)),
    damaged('both directories past the end', 'open', 'truncated', ({ image }) => {
      image.writeUInt32LE(9999, 48);
      image.writeUInt32LE(9999, 56);
    }),
    damaged('both tables past the end', 'read', 'truncated', ({ image, directoryAt, redundantAt }) => {
      image.writeUInt32LE(9999, directoryAt);
      image.writeUInt32LE(9999, redundantAt);
    }),
    damaged('no footer', 'open', 'truncated', ({ image }) => image.fill(0, image.length - 1024), stream),
    damaged(
      'a grain that claims 4 GiB',
      'read',
      'corrupt',
      ({ image, grainsAt }) => image.writeUInt32LE(2 ** 32 - 1, (grainsAt.get(0) ?? 0) + 8),
      stream,
    ),
    damaged(
      'a grain that yields too little',
      'read',
      'corrupt',
      ({ image, grainsAt }) => image.fill(0, (grainsAt.get(0) ?? 0) + 200, (grainsAt.get(0) ?? 0) + 300),
      stream,
    ),
    damaged('compressed grains of 16 MiB', 'open', 'limit', ({ image }) => image.writeUInt32LE(32_768, 20), {
      text: STREAM,
      compressed: 'markers',
    }),
    damaged('COWD, a part of a delta', 'open', 'unsupported', () => {}, { kind: 'cowd', root: false }),
    damaged('COWD, version 2', 'open', 'unsupported', ({ image }) => image.writeUInt32LE(2, 4), { kind: 'cowd' }),
    damaged('COWD, a small directory', 'open', 'corrupt', ({ image }) => image.writeUInt32LE(0, 24), { kind: 'cowd' }),
    damaged('seSparse, another version', 'open', 'unsupported', ({ image }) => image.writeUInt8(2, 8), {
      kind: 'sesparse',
    }),
    damaged('seSparse, a journal', 'open', 'unsupported', () => {}, { kind: 'sesparse', unclean: true }),
    damaged(
      'seSparse, a table that is none',
      'read',
      'corrupt',
      ({ image, directoryAt }) => image.writeUInt8(32, directoryAt + 7),
      { kind: 'sesparse' },
    ),
    damaged(
      'seSparse, a grain that is none',
      'read',
      'corrupt',
      ({ image, tablesAt }) => image.writeUInt8(64, (tablesAt.get(0) ?? 0) + 7),
      { kind: 'sesparse' },
    ),
  ];
}

function brokenText(name: string, reason: BrokenSample['reason'], text: string): BrokenSample {
  return { name, image: Buffer.from(text), fails: 'open', reason };
}

function brokenTexts(): BrokenSample[] {
  const flat = (line: string): string => textOf('custom', [line]);
  const many = Array.from({ length: 4097 }, () => 'RW 1 ZERO');
  return [
    brokenText('no extents', 'corrupt', textOf('custom', [])),
    brokenText('4097 extents', 'limit', textOf('custom', many)),
    brokenText('no kind of disk', 'unsupported', '# Disk DescriptorFile\nRW 1 ZERO\n'),
    brokenText('an unknown kind of disk', 'unsupported', textOf('holographic', ['RW 1 ZERO'])),
    brokenText('fullDevice', 'unsupported', textOf('fullDevice', ['RW 1 FLAT "/dev/sda" 0'])),
    brokenText('partitionedDevice', 'unsupported', textOf('partitionedDevice', ['RW 1 ZERO'])),
    brokenText('vmfsRaw', 'unsupported', textOf('vmfsRaw', ['RW 1 VMFSRAW "x-rdm.vmdk"'])),
    brokenText('an extent that is a device', 'unsupported', flat('RW 1 VMFSRDM "x-rdm.vmdk"')),
    brokenText('an unknown kind of extent', 'unsupported', flat('RW 1 CLAY "x"')),
    brokenText('an extent without sectors', 'corrupt', flat('RW 0 ZERO')),
    brokenText('an extent without a file', 'corrupt', flat('RW 1 FLAT')),
    brokenText('an extent beyond 2^53', 'corrupt', flat('RW 9999999999999999 ZERO')),
    brokenText('an extent of 4 PiB', 'limit', flat('RW 8796093022208 ZERO')),
    brokenText('a CID that is none', 'unsupported', flat('RW 1 ZERO').replace(/CID=\w+/, 'CID=xyz')),
    brokenText('a delta of nothing', 'missing', flat('RW 1 ZERO').replace(/parentCID=\w+/, 'parentCID=1')),
    brokenText('a parent on Windows', 'refused', textOf('custom', ['RW 1 ZERO'], 'C:\\disks\\base.vmdk')),
    brokenText('a descriptor of 1 MiB', 'limit', flat('RW 1 ZERO').padEnd(2 ** 20, '#')),
    brokenText(
      'an unknown encoding',
      'unsupported',
      flat('RW 1 FLAT "\u00e4" 0').replace('version=1', 'version=1\nencoding="klingon"'),
    ),
  ];
}

function brokenParts(): BrokenSample[] {
  const naming = (name: string, reason: BrokenSample['reason'], line: string, file: SampleFile): BrokenSample => {
    const image = Buffer.from(textOf('custom', [line]));
    return { name, image, beside: [file], fails: 'open', reason };
  };
  const hosted = filled({ size: 36_864 }).build().image;
  const parent = filled({ size: 65_536, text: MONOLITHIC }).build().image;
  const top = textOf('custom', ['RW 128 ZERO'], 'base.vmdk', CID + 7);
  const base: SampleFile = { name: 'base.vmdk', role: 'base', format: 'vmdk', bytes: () => parent };
  return [
    naming('a flat extent that is too short', 'truncated', 'RW 5 FLAT "a" 1', part('a', new Uint8Array(5 * SECTOR))),
    naming('a sparse extent of another size', 'unsupported', 'RW 71 SPARSE "a"', part('a', hosted)),
    naming('a sparse extent that is none', 'corrupt', 'RW 72 SPARSE "a"', part('a', new Uint8Array(4096))),
    naming('a sparse extent of another kind', 'corrupt', 'RW 72 SESPARSE "a"', part('a', hosted)),
    { name: 'a parent with another CID', image: Buffer.from(top), beside: [base], fails: 'open', reason: 'refused' },
  ];
}
