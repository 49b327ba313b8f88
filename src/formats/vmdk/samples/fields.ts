/** Where the fields of a sample lie, so that tests can put wrong values into every one of them. */
import type { FieldPlace, Specimen } from '../../../image/samples.js';
import { SECTOR } from '../layout.js';
import { filled, textOf } from './catalogue.js';
import type { BuiltExtent, SparseOptions } from './sparse.js';

type Shape = readonly [name: string, at: number, bytes: FieldPlace['bytes']];

const HOSTED: readonly Shape[] = [
  ['magic', 0, 4],
  ['version', 4, 4],
  ['flags', 8, 4],
  ['capacity', 12, 8],
  ['grainSize', 20, 8],
  ['descriptorAt', 28, 8],
  ['descriptorSectors', 36, 8],
  ['entriesPerTable', 44, 4],
  ['redundantAt', 48, 8],
  ['directoryAt', 56, 8],
  ['overhead', 64, 8],
  ['unclean', 72, 1],
  ['compression', 77, 2],
];
const COWD: readonly Shape[] = [
  ['magic', 0, 4],
  ['version', 4, 4],
  ['flags', 8, 4],
  ['capacity', 12, 4],
  ['grainSize', 16, 4],
  ['directoryAt', 20, 4],
  ['directoryEntries', 24, 4],
  ['freeSector', 28, 4],
];
const SESPARSE: readonly Shape[] = [
  ['magic', 0, 8],
  ['version', 8, 8],
  ['capacity', 16, 8],
  ['grainSize', 24, 8],
  ['tableSectors', 32, 8],
  ['flags', 40, 8],
  ['volatileAt', 80, 8],
  ['directoryAt', 128, 8],
  ['directorySectors', 136, 8],
  ['tablesAt', 144, 8],
  ['tablesSectors', 152, 8],
  ['grainsAt', 192, 8],
];

const TEXT = textOf('monolithicSparse', ['RW 128 SPARSE "disk.vmdk"']);
const STREAM = textOf('streamOptimized', ['RW 128 SPARSE "disk.vmdk"']);
const COPIES = 'it does not use the second copy of the tables';
const PARTS = 'it opens such extents through a descriptor only';
const NOTHING = { start: 0, length: 0 } as const;

/** One specimen for each way in which the format's structures differ. All are small. */
export function specimens(): Specimen[] {
  const one = { size: 65_536, text: TEXT, redundant: false };
  const packed = { ...one, text: STREAM, version: 3, compressed: 'markers' } as const;
  return [
    { ...specimen('two copies', HOSTED, { ...one, redundant: true, shuffle: 3 }), notForQemu: COPIES },
    specimen('one copy', HOSTED, { ...one, shuffle: 3 }),
    specimen('zeroed grains', HOSTED, { ...one, version: 2, zeroGrains: true, grainSectors: 4 }),
    specimen('small grains', HOSTED, { ...one, size: 163_840, grainSectors: 1, entriesPerTable: 128 }),
    specimen('stream', HOSTED, { ...packed, footer: true }),
    specimen('compressed', HOSTED, packed),
    { ...specimen('COWD', COWD, { size: 65_536, kind: 'cowd', grainSectors: 1, shuffle: 5 }), notForQemu: PARTS },
    { ...specimen('seSparse', SESPARSE, { size: 65_536, kind: 'sesparse', shuffle: 7 }), notForQemu: PARTS },
  ];
}

function specimen(name: string, header: readonly Shape[], options: SparseOptions): Specimen {
  const extent = filled(options);
  const built = extent.build();
  const entryBytes = options.kind === 'sesparse' ? 8 : 4;
  const fields = [
    ...placed('header.', 0, header),
    ...(options.footer === true ? placed('footer.', built.image.length - 2 * SECTOR, header) : []),
    ...(options.footer === true ? markers(built) : []),
    ...placed('directory.', built.directoryAt, [['[0]', 0, entryBytes]]),
    ...(built.redundantAt === 0 || options.redundant === false
      ? []
      : placed('redundant.', built.redundantAt, [['[0]', 0, entryBytes]], NOTHING)),
    ...entries('table', built.tablesAt.get(0) ?? 0, entryBytes, extent.grainSize, true),
    ...(built.copiesAt.has(0) && options.redundant !== false
      ? entries('copy', built.copiesAt.get(0) ?? 0, entryBytes, extent.grainSize, false)
      : []),
    ...(options.compressed === undefined ? [] : grainMarkers(built, extent.grainSize)),
  ];
  return { name, image: built.image, disk: extent.plain(), fields };
}

function placed(prefix: string, from: number, shapes: readonly Shape[], touches?: FieldPlace['touches']): FieldPlace[] {
  return shapes.map(([name, at, bytes]) => ({
    name: `${prefix}${name}`,
    at: from + at,
    bytes,
    littleEndian: true,
    ...(touches === undefined ? {} : { touches }),
  }));
}

/** The first entries of a table: of the first copy each touches its own grain only, of the second none. */
function entries(name: string, at: number, bytes: 4 | 8, grainSize: number, counts: boolean): FieldPlace[] {
  return Array.from({ length: 8 }, (_, n) => {
    const touches = counts ? { start: n * grainSize, length: grainSize } : NOTHING;
    return placed(`${name}[${n}]`, at + n * bytes, [['', 0, bytes]], touches);
  }).flat();
}

/** Around the footer. */
function markers({ image }: BuiltExtent): FieldPlace[] {
  const shape: readonly Shape[] = [
    ['value', 0, 8],
    ['size', 8, 4],
    ['type', 12, 4],
  ];
  return [
    ...placed('footer marker.', image.length - 3 * SECTOR, shape),
    ...placed('end marker.', image.length - SECTOR, shape),
  ];
}

function grainMarkers({ grainsAt }: BuiltExtent, grainSize: number): FieldPlace[] {
  return [...grainsAt].slice(0, 3).flatMap(([number, at]) =>
    placed(
      `grain[${number}].`,
      at,
      [
        ['sector', 0, 8],
        ['size', 8, 4],
        ['stream', 12, 4],
      ],
      { start: number * grainSize, length: grainSize },
    ),
  );
}
