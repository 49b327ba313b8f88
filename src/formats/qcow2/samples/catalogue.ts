/** Ready-made images for suites that run over every format: good ones with what they must read as, and broken ones. */

import { pattern } from '../../../image/sample-bytes.js';
import type { BrokenSample, GoodSample } from '../../../image/samples.js';
import { asBuffer } from '../../../lib/bits.js';
import type { Reason } from '../../../lib/errors.js';
import { encodeFeatureNames, putEntry, putU64 } from '../encode.js';
import { EXTENSION, HEADER_BYTES, incompatibleByte } from '../layout.js';
import { SampleImage, type SampleOptions } from './image.js';
import { layOut } from './lay-out.js';

const VARIANTS: readonly (readonly [string, Omit<SampleOptions, 'size'>])[] = [
  ['version 2', { version: 2 }],
  ['version 3', {}],
  ['shuffled', { shuffle: 7 }],
  ['512-byte clusters, shuffled', { clusterBits: 9, shuffle: 3 }],
  ['4 KiB clusters, 64-bit refcounts', { clusterBits: 12, refcountBits: 64, shuffle: 5 }],
  ['2 MiB clusters', { clusterBits: 21 }],
  ['subclusters', { clusterBits: 14, extended: true, shuffle: 11 }],
  ['zstd', { clusterBits: 12, compression: 'zstd' }],
  ['long header', { headerBytes: 160 }],
  ['short header', { headerBytes: 104 }],
  ['dirty', { dirty: true, lazyRefcounts: true }],
  ['marked corrupt', { corrupt: true }],
  ['ends inside a compressed cluster', { clusterBits: 12, cutAfterPacked: true }],
];

/** One image per variant of the format, each with data, zeros, holes, compressed clusters and two snapshots. */
export function goodSamples(): GoodSample[] {
  return VARIANTS.map(([name, options]) => goodSample(name, options));
}

/** The disk: clusters of data, zero, hole and compressed, and an end that is no multiple of anything. */
function goodSample(name: string, options: Omit<SampleOptions, 'size'>): GoodSample {
  const unit = 2 ** (options.clusterBits ?? 16);
  const size = unit * 9 + 1000 - (unit === 512 ? 500 : 0);
  const recipe = new SampleImage({ ...options, size });
  const first = pattern(unit * 2, 1);
  recipe.write(0, first).pack(unit * 3, pattern(unit, 2).fill(33, unit / 4));
  const vmState = pattern(unit + 77, 9);
  recipe.snapshot('first', { vmState: options.version === 2 ? new Uint8Array() : vmState });
  const states = [recipe.plain()];
  recipe.write(unit, pattern(unit, 3)).write(unit * 8, pattern(size - unit * 8, 4));
  if (options.version !== 2) recipe.zero(unit * 3, unit).zero(unit * 5, unit, true);
  recipe.snapshot('second/with a slash');
  states.push(recipe.plain());
  recipe.pack(unit * 6, pattern(unit, 5).fill(0, unit / 8)).pack(unit * 7, new Uint8Array(unit).fill(7));
  const disk = recipe.plain();
  const none = new Uint8Array();
  return {
    name,
    image: recipe.build(),
    disk,
    snapshots: states.map((state, index) => ({
      id: String(index + 1),
      disk: state,
      vmState: index === 0 && options.version !== 2 ? vmState : none,
    })),
  };
}

/** Header fields a damaged image gets wrong values in: byte offset and width. */
const FIELD = {
  version: 4,
  backingAt: 8,
  backingBytes: 16,
  clusterBits: 20,
  size: 24,
  cryptMethod: 32,
  l1Entries: 36,
  l1At: 40,
  refcountTableAt: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsAt: 64,
  refcountOrder: 96,
  headerBytes: 100,
  compressionType: 104,
} as const;

/** Images each wrong in one way. */
export function brokenSamples(): BrokenSample[] {
  return [...brokenHeaders(), ...brokenEntries(), ...brokenExtensions()];
}

function base(options: Omit<SampleOptions, 'size'> = {}): SampleImage {
  const recipe = new SampleImage({ size: 1024 * 1024, ...options });
  return recipe.write(0, pattern(recipe.clusterSize, 1)).snapshot('one');
}

function damaged(
  name: string,
  fails: BrokenSample['fails'],
  reason: Reason,
  damage: (image: Buffer) => void,
  options: Omit<SampleOptions, 'size'> = {},
): BrokenSample {
  const image = base(options).build();
  damage(asBuffer(image));
  return { name, image, fails, reason };
}

function brokenHeaders(): BrokenSample[] {
  const u32 = (name: string, at: number, value: number, reason: Reason, options?: Omit<SampleOptions, 'size'>) =>
    damaged(name, 'open', reason, (image) => image.writeUInt32BE(value, at), options);
  const u64 = (name: string, at: number, value: number, reason: Reason) =>
    damaged(name, 'open', reason, (image) => putU64(image, at, value));
  const high = (name: string, at: number) =>
    damaged(name, 'open', 'corrupt', (image) => image.writeUInt32BE(2 ** 31, at));
  return [
    u32('version 4', FIELD.version, 4, 'unsupported'),
    u32('clusters of 256 bytes', FIELD.clusterBits, 8, 'corrupt'),
    u32('clusters of 4 MiB', FIELD.clusterBits, 22, 'limit'),
    u32('clusters of 2^31 bytes', FIELD.clusterBits, 31, 'limit'),
    u32('subclusters of 256 bytes', FIELD.clusterBits, 13, 'corrupt', { extended: true, clusterBits: 14 }),
    u64('a disk beyond the limit', FIELD.size, 2 ** 52, 'limit'),
    high('a disk of 2^63 bytes', FIELD.size),
    u64('an L1 too small for the disk', FIELD.size, 2 ** 40, 'corrupt'),
    u32('an L1 beyond its limit', FIELD.l1Entries, 2 ** 22 + 1, 'limit'),
    u32('an L1 at its limit, past the end', FIELD.l1Entries, 2 ** 22, 'truncated'),
    u64('an L1 that is not aligned', FIELD.l1At, 65_536 + 512, 'corrupt'),
    high('an L1 past 2^53', FIELD.l1At),
    u32('a refcount table beyond its limit', FIELD.refcountTableClusters, 129, 'limit'),
    u32('no refcount table', FIELD.refcountTableClusters, 0, 'corrupt'),
    u64('a refcount table past the end', FIELD.refcountTableAt, 2 ** 40, 'truncated'),
    u32('refcounts of 128 bits', FIELD.refcountOrder, 7, 'corrupt'),
    u32('65537 snapshots', FIELD.snapshotCount, 65_537, 'limit'),
    u32('a header of 100 bytes', FIELD.headerBytes, 100, 'corrupt'),
    u32('a header longer than its cluster', FIELD.headerBytes, 65_544, 'corrupt'),
    u64('a backing name outside the first cluster', FIELD.backingAt, 65_537, 'corrupt'),
    u32('a backing name of 1024 bytes', FIELD.backingBytes, 1024, 'limit', { backing: { name: 'base' } }),
    u32('an unknown encryption method', FIELD.cryptMethod, 3, 'unsupported'),
    u32('LUKS without its header', FIELD.cryptMethod, 2, 'corrupt'),
    damaged('a type without its bit', 'open', 'corrupt', (image) => image.writeUInt8(1, FIELD.compressionType)),
    damaged('a bit without its type', 'open', 'corrupt', (image) => image.writeUInt8(0, FIELD.compressionType), {
      compression: 'zstd',
    }),
    damaged('compression type 2', 'open', 'unsupported', (image) => image.writeUInt8(2, FIELD.compressionType), {
      compression: 'zstd',
    }),
    unknownFeature(),
    { name: 'a file of 40 bytes', image: base().build().subarray(0, 40), fails: 'open', reason: 'truncated' },
    {
      name: 'a version 3 header cut short',
      image: base().build().subarray(0, 100),
      fails: 'open',
      reason: 'truncated',
    },
    damaged('snapshots past the end', 'snapshots', 'truncated', (image) => putU64(image, FIELD.snapshotsAt, 2 ** 40)),
  ];
}

function unknownFeature(): BrokenSample {
  const names = encodeFeatureNames([{ bit: 9, name: 'time travel' }]);
  const { at, value } = incompatibleByte(9);
  return damaged(
    'an unknown incompatible feature with a name',
    'open',
    'unsupported',
    (image) => image.writeUInt8(value, at),
    { extensions: [{ type: EXTENSION.featureNames, data: names }] },
  );
}

function brokenEntries(): BrokenSample[] {
  const inL1 = (name: string, reason: Reason, offset: number): BrokenSample => {
    const { image, l1At } = layOut(base());
    putEntry(asBuffer(image), l1At, { offset });
    return { name, image, fails: 'read', reason };
  };
  const inL2 = (name: string, damage: (image: Buffer, at: number) => void, options = {}): BrokenSample => {
    const { image, l2At } = layOut(base(options));
    damage(asBuffer(image), l2At.get(0) ?? 0);
    return { name, image, fails: 'read', reason: 'corrupt' };
  };
  const extended = { extended: true };
  return [
    inL1('an L1 entry that is not aligned', 'corrupt', 65_536 + 512),
    inL1('an L1 entry past the end', 'truncated', 2 ** 40),
    inL1('an L1 entry past 2^53', 'corrupt', 2 ** 54),
    inL2('an L2 entry that is not aligned', (image, at) => putEntry(image, at, { offset: 65_536 + 512 })),
    inL2('an L2 entry past 2^53', (image, at) => putEntry(image, at, { offset: 2 ** 54 })),
    inL2('a zero cluster in version 2', (image, at) => putEntry(image, at, { offset: 0, zero: true }), { version: 2 }),
    inL2('a compressed cluster of rubbish', (image, at) => image.writeUInt32BE(2 ** 30, at)),
    inL2('a subcluster both zero and stored', (image, at) => image.writeUInt32BE(1, at + 8), extended),
    inL2('subclusters without a place', (image, at) => putEntry(image, at, { offset: 0 }), extended),
    bomb(),
    shortStream(),
  ];
}

/** A stream that would yield far more than a cluster. */
function bomb(): BrokenSample {
  const big = new SampleImage({ size: 2 ** 21, clusterBits: 21 }).pack(0, new Uint8Array(2 ** 21));
  const stream = big.clusters.get(0)?.bytes ?? new Uint8Array();
  const recipe = new SampleImage({ size: 65_536 }).pack(0, new Uint8Array(), stream);
  return { name: 'a compressed cluster that yields 2 MiB', image: recipe.build(), fails: 'read', reason: 'corrupt' };
}

function shortStream(): BrokenSample {
  const stream = new SampleImage({ size: 512, clusterBits: 9 })
    .pack(0, pattern(512, 2).fill(7, 200))
    .clusters.get(0)?.bytes;
  const recipe = new SampleImage({ size: 65_536 }).pack(0, new Uint8Array(), stream ?? new Uint8Array());
  return {
    name: 'a compressed cluster that yields 512 bytes',
    image: recipe.build(),
    fails: 'read',
    reason: 'corrupt',
  };
}

function brokenExtensions(): BrokenSample[] {
  const bitmaps = [{ name: 'b', granularity: 65_536, inUse: false, auto: true }];
  const at = HEADER_BYTES.known;
  return [
    damaged('an extension longer than the header', 'open', 'corrupt', (image) => {
      image.writeUInt32BE(EXTENSION.featureNames, at);
      image.writeUInt32BE(2 ** 31, at + 4);
    }),
    damaged('no bitmap in the bitmaps extension', 'open', 'corrupt', (image) => image.writeUInt32BE(0, at + 8), {
      bitmaps,
    }),
    damaged('65536 bitmaps', 'open', 'limit', (image) => image.writeUInt32BE(65_536, at + 8), { bitmaps }),
    damaged('a bitmap directory past the end', 'info', 'truncated', (image) => putU64(image, at + 24, 2 ** 40), {
      bitmaps,
    }),
  ];
}
