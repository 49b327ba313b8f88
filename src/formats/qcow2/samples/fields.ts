/** Where the fields of a sample lie, so that tests can put wrong values into every one of them. */
import type { FieldPlace, Specimen } from '../../../image/samples.js';
import { asBuffer, readU64BE } from '../../../lib/bits.js';
import {
  BITMAP_HEADER_BYTES,
  decodeExtensionHeader,
  EXTENSION_HEADER_BYTES,
  SNAPSHOT_HEADER_BYTES,
} from '../layout.js';
import { SampleImage, type SampleOptions } from './image.js';
import { type LaidOut, layOut } from './lay-out.js';

type Shape = readonly [name: string, bytes: FieldPlace['bytes']];

/** The fields of the header in their order; version 2 ends with the snapshot table's offset. */
const HEADER: readonly Shape[] = [
  ['magic', 4],
  ['version', 4],
  ['backingAt', 8],
  ['backingBytes', 4],
  ['clusterBits', 4],
  ['size', 8],
  ['cryptMethod', 4],
  ['l1Entries', 4],
  ['l1At', 8],
  ['refcountTableAt', 8],
  ['refcountTableClusters', 4],
  ['snapshotCount', 4],
  ['snapshotsAt', 8],
];
const HEADER_3: readonly Shape[] = [
  ['incompatible', 8],
  ['compatible', 8],
  ['autoclear', 8],
  ['refcountOrder', 4],
  ['headerBytes', 4],
  ['compressionType', 1],
];
const SNAPSHOT: readonly Shape[] = [
  ['l1At', 8],
  ['l1Entries', 4],
  ['idBytes', 2],
  ['nameBytes', 2],
  ['seconds', 4],
  ['nanoseconds', 4],
  ['vmClock', 8],
  ['vmStateSize', 4],
  ['extraBytes', 4],
  ['extra.vmStateSize', 8],
  ['extra.diskSize', 8],
  ['extra.icount', 8],
];
const BITMAP: readonly Shape[] = [
  ['tableAt', 8],
  ['tableEntries', 4],
  ['flags', 4],
  ['type', 1],
  ['granularityBits', 1],
  ['nameBytes', 2],
  ['extraBytes', 4],
];

const NOTHING = { start: 0, length: 0 } as const;

/** Byte offset of every header field, by name. */
export const HEADER_OFFSETS: ReadonlyMap<string, number> = new Map(
  inOrder('', 0, [...HEADER, ...HEADER_3]).map(({ name, at }) => [name, at]),
);

/** The fields `shapes` one after the other from `at` on. */
function inOrder(prefix: string, at: number, shapes: readonly Shape[], touches?: FieldPlace['touches']): FieldPlace[] {
  let next = at;
  return shapes.map(([name, bytes]) => {
    const field = { name: `${prefix}${name}`, at: next, bytes, ...(touches === undefined ? {} : { touches }) };
    next += bytes;
    return field;
  });
}

/** One specimen for each way in which the format's structures differ. All are small. */
export function specimens(): Specimen[] {
  const bitmaps = [{ name: 'dirty', granularity: 65_536, inUse: false, auto: true }];
  return [
    specimen('version 2', { version: 2, clusterBits: 12 }),
    specimen('version 3', { clusterBits: 12, bitmaps, shuffle: 3 }),
    specimen('small clusters', { clusterBits: 9, refcountBits: 64 }),
    specimen('zstd', { clusterBits: 12, refcountBits: 4, compression: 'zstd' }),
    specimen('subclusters', { clusterBits: 14, extended: true, shuffle: 5 }),
  ];
}

function specimen(name: string, options: Omit<SampleOptions, 'size'>): Specimen {
  const unit = 2 ** (options.clusterBits ?? 16);
  const recipe = new SampleImage({ ...options, size: unit * 40 + 512 });
  const bytes = (clusters: number, salt: number): Uint8Array =>
    Uint8Array.from({ length: clusters * unit }, (_, n) => (n * 31 + Math.floor(n / 253) * salt) % 256);
  recipe
    .write(0, bytes(3, 1))
    .write(unit * 6, bytes(2, 3))
    .pack(unit * 4, new Uint8Array(unit).fill(9, unit / 3));
  recipe.snapshot('first', { vmState: options.version === 2 ? new Uint8Array() : bytes(1, 5) });
  recipe.write(unit, bytes(1, 7)).pack(unit * 9, new Uint8Array(unit).fill(4));
  if (options.version !== 2) recipe.zero(unit * 6, unit, true);
  recipe.snapshot('second');
  const laid = layOut(recipe);
  return { name, image: laid.image, disk: recipe.plain(), fields: fieldsOf(laid, recipe) };
}

function fieldsOf(laid: LaidOut, recipe: SampleImage): FieldPlace[] {
  const image = asBuffer(laid.image);
  const version2 = recipe.options.version === 2;
  const headerBytes = version2 ? 72 : image.readUInt32BE(100);
  return [
    ...inOrder('header.', 0, version2 ? HEADER : [...HEADER, ...HEADER_3]),
    ...extensionFields(image, headerBytes),
    ...inOrder('l1[0].', laid.l1At, [['entry', 8]]),
    ...l2Fields(laid, recipe),
    ...refcountFields(image, laid),
    ...snapshotFields(image, laid.snapshotsAt),
    ...(laid.bitmapsAt === 0 ? [] : inOrder('bitmap.', laid.bitmapsAt, BITMAP, NOTHING)),
    ...(laid.bitmapsAt === 0 ? [] : inOrder('bitmap.', laid.bitmapsAt + BITMAP_HEADER_BYTES, [['name', 4]], NOTHING)),
  ];
}

/** The frames up to the end marker, itself included, and the first words of what they hold. */
function extensionFields(image: Buffer, from: number): FieldPlace[] {
  const fields: FieldPlace[] = [];
  for (let at = from; ; ) {
    const { type, length } = decodeExtensionHeader(image, at);
    const words = Array.from({ length: Math.min(3, Math.floor(length / 8)) }, (_, n): Shape => [`data[${n}]`, 8]);
    fields.push(...inOrder(`extension@${at}.`, at, [['type', 4], ['length', 4], ...words]));
    if (type === 0) return fields;
    at += EXTENSION_HEADER_BYTES + Math.ceil(length / 8) * 8;
  }
}

/** The first entries of the first table, which touch their own cluster only. */
function l2Fields(laid: LaidOut, recipe: SampleImage): FieldPlace[] {
  const at = laid.l2At.get(0) ?? 0;
  const shape: readonly Shape[] =
    recipe.options.extended === true
      ? [
          ['entry', 8],
          ['zeros', 4],
          ['allocated', 4],
        ]
      : [['entry', 8]];
  const entryBytes = shape.reduce((sum, [, bytes]) => sum + bytes, 0);
  return Array.from({ length: 10 }, (_, n) => {
    const touches = { start: n * recipe.clusterSize, length: recipe.clusterSize };
    return inOrder(`l2[${n}].`, at + n * entryBytes, shape, touches);
  }).flat();
}

function refcountFields(image: Buffer, laid: LaidOut): FieldPlace[] {
  const block = readU64BE(image, laid.refcountTableAt, 'refcount block');
  return [
    ...inOrder('refcount table[0].', laid.refcountTableAt, [['entry', 8]], NOTHING),
    ...inOrder('refcount block.', block, [['first', 8]], NOTHING),
  ];
}

function snapshotFields(image: Buffer, at: number): FieldPlace[] {
  const known = SNAPSHOT_HEADER_BYTES + image.readUInt32BE(at + 36);
  const fields = inOrder('snapshot[0].', at, SNAPSHOT, NOTHING).filter((field) => field.at < at + known);
  const l1At = readU64BE(image, at, 'snapshot L1');
  return [...fields, ...inOrder('snapshot[0].l1[0].', l1At, [['entry', 8]], NOTHING)];
}
