/** qcow2: every operation alone and mixed, over every kind of cluster, table and refcount. */
import type { SampleImage, SampleOptions } from '../../src/formats/qcow2/samples/image.js';
import { alphabet, everything } from './alphabet.js';
import type { Operation } from './operations.js';
import { countedLazily, data, packed, qcow2Start, RAW_BASE, type Start } from './starts.js';
import type { Workload } from './workload.js';

const KIB = 1024;
const FLUSH: Operation = { do: 'flush' };

function qcow2(name: string, start: Start, operations: readonly Operation[]): Workload {
  return { name: `qcow2: ${name}`, format: 'qcow2', files: qcow2Start(start), operations, qemu: 'checks' };
}

const snapshot = (name: string): Operation => ({ do: 'snapshot', name });
const remove = (name: string): Operation => ({ do: 'delete', name });
const apply = (name: string): Operation => ({ do: 'apply', name });
const rename = (name: string, to: string): Operation => ({ do: 'rename', name, to });

/** Data, an old snapshot, data that differs from it, zeros and compressed clusters. */
function storied(image: SampleImage): void {
  data(image, 0, 3);
  // Compressed clusters may share a host cluster, which narrow refcounts cannot count.
  if ((image.options.refcountBits ?? 16) > 4) packed(image, 4, 6);
  image.snapshot('old');
  data(image, 1, 2, 0xbef0_0001);
  if (image.options.version !== 2) image.zero(6 * image.clusterSize, image.clusterSize, true);
}

function configured(name: string, options: Omit<SampleOptions, 'size'>, clusters = 16): Workload {
  const unit = 2 ** (options.clusterBits ?? 16);
  return qcow2(name, { options: { ...options, size: clusters * unit }, fill: storied }, everything(unit, clusters));
}

const k4 = alphabet(4 * KIB);
const k64 = alphabet(64 * KIB);
const b512 = alphabet(512);
const plain4: SampleOptions = { size: 128 * KIB, clusterBits: 12 };

const clusterKinds: readonly Workload[] = [
  configured('everything, 512 B', { clusterBits: 9 }),
  configured('everything, 4 KiB', { clusterBits: 12 }),
  configured('everything, 64 KiB', {}),
  { ...configured('everything, 2 MiB', { clusterBits: 21 }, 8), oneIn: 20 },
  { ...configured('everything, past no cache', { clusterBits: 12 }), unbuffered: true },
  configured('everything, version 2', { version: 2, clusterBits: 12 }),
  configured('everything, subclusters of 512 B', { clusterBits: 14, extended: true }),
  configured('everything, subclusters of 2 KiB', { clusterBits: 16, extended: true }),
  configured('everything, refcounts of 8 bits', { clusterBits: 12, refcountBits: 8 }),
  configured('everything, refcounts of 2 bits', { clusterBits: 12, refcountBits: 2 }),
  configured('everything, refcounts of 64 bits', { clusterBits: 9, refcountBits: 64 }),
  configured('everything, shuffled', { clusterBits: 12, shuffle: 9 }),
  configured('everything, backed, 4 KiB', { clusterBits: 12, backing: RAW_BASE }),
  configured('everything, backed, 64 KiB', { backing: RAW_BASE }),
  configured('everything, backed, subclusters', { clusterBits: 16, extended: true, backing: RAW_BASE }),
  qcow2(
    'refcounts of 1 bit',
    { options: { ...plain4, refcountBits: 1 }, fill: (image) => data(image, 0, 4) },
    everything(4 * KIB),
  ),
  qcow2(
    'data file',
    { options: { ...plain4, dataFile: { name: 'data.raw' } }, fill: (image) => data(image, 0, 4) },
    everything(4 * KIB),
  ),
  qcow2(
    'raw data file',
    { options: { ...plain4, dataFile: { name: 'data.raw', raw: true } }, fill: (image) => data(image, 0, 4) },
    everything(4 * KIB),
  ),
  qcow2(
    'bitmaps',
    {
      options: {
        ...plain4,
        bitmaps: [{ name: 'b', granularity: 65_536, inUse: false, auto: true }],
      },
      fill: (image) => data(image, 0, 4),
    },
    [k4.w(1, 1), FLUSH, k4.w(9, 3), k4.d(0, 2), FLUSH, k4.w(0, 1)],
  ),
];

const single: readonly Workload[] = [
  qcow2('growing into an empty disk', { options: { size: 2048 * KIB } }, [
    k64.w(0, 16),
    k64.w(16, 2),
    FLUSH,
    k64.w(18, 8),
    k64.w(26, 6),
    FLUSH,
    k64.w(0, 1),
  ]),
  {
    ...qcow2('growing past no cache', { options: { size: 2048 * KIB } }, [
      k64.w(0, 12),
      k64.w(12.5, 2),
      { do: 'publish' },
      k64.w(20, 8),
      k64.w(12, 1),
      FLUSH,
      k64.w(16, 2),
      k64.d(0, 2),
      k64.w(1, 1),
      FLUSH,
    ]),
    unbuffered: true,
  },
  qcow2('overwriting in place', { options: plain4, fill: (image) => data(image, 0, 32) }, [
    k4.w(0, 3),
    k4.w(5.5, 1),
    FLUSH,
    k4.w(1, 0.125),
    k4.w(30, 2),
    FLUSH,
    k4.w(2, 3),
  ]),
  qcow2('many small writes before one flush', { options: { ...plain4, backing: RAW_BASE } }, [
    ...Array.from({ length: 16 }, (_, n) => k4.w((n * 11) % 31, 0.25)),
    FLUSH,
    ...Array.from({ length: 12 }, (_, n) => k4.w(((n * 7) % 31) + 0.5, 0.25)),
    { do: 'publish' },
    k4.w(3.75, 0.5),
    FLUSH,
  ]),
  qcow2('new L2 tables', { options: { size: 384 * KIB, clusterBits: 9 } }, [
    b512.w(0, 2),
    b512.w(130, 3),
    FLUSH,
    b512.w(62, 4),
    b512.w(400, 80),
    FLUSH,
    b512.w(700, 1),
    b512.d(128, 64),
    b512.w(130, 1),
    FLUSH,
  ]),
  {
    ...qcow2('refcount table grows', { options: { size: 2560 * KIB, clusterBits: 9, refcountBits: 64 } }, [
      b512.w(0, 3500),
      FLUSH,
      b512.w(3500, 1000),
      b512.w(4600, 500),
      FLUSH,
      b512.w(10, 1),
    ]),
    oneIn: 6,
  },
  qcow2('zeros and discards', { options: plain4, fill: (image) => data(image, 0, 16) }, [
    k4.d(0, 4),
    k4.w(1, 1),
    FLUSH,
    k4.d(4, 8),
    FLUSH,
    k4.w(20, 8),
    k4.z(14.5, 3),
    FLUSH,
    k4.d(20, 4),
    k4.w(21.5, 1),
    k4.z(21, 2),
    FLUSH,
    k4.w(0, 8),
  ]),
  qcow2('discards over a backing file', { options: { ...plain4, backing: RAW_BASE } }, [
    k4.w(0, 4),
    FLUSH,
    k4.d(1, 4),
    k4.z(8.5, 2),
    FLUSH,
    k4.w(2.5, 0.25),
    k4.d(0, 32),
    FLUSH,
  ]),
  qcow2('compressed clusters rewritten', { options: plain4, fill: (image) => packed(image, 0, 12) }, [
    k4.w(0.5, 0.25),
    k4.w(2, 2),
    FLUSH,
    k4.d(4, 2),
    k4.z(6.5, 2),
    FLUSH,
    k4.w(0, 12),
    FLUSH,
    k4.w(13, 4),
  ]),
];

const snapshots: readonly Workload[] = [
  qcow2('snapshot create', { options: plain4, fill: (image) => data(image, 0, 6) }, [
    k4.w(8, 2),
    snapshot('a'),
    k4.w(1.5, 1),
    FLUSH,
    snapshot('b'),
    k4.w(1.25, 0.125),
    k4.w(0, 8),
    FLUSH,
  ]),
  qcow2('snapshot delete', { options: plain4, fill: storied }, [
    k4.w(0.5, 1),
    remove('old'),
    k4.w(0.5, 2),
    FLUSH,
    k4.w(10, 6),
    FLUSH,
  ]),
  qcow2('snapshot apply', { options: plain4, fill: storied }, [
    k4.w(0.5, 3),
    FLUSH,
    k4.w(9, 1),
    apply('old'),
    k4.w(1.25, 0.5),
    k4.w(12, 2),
    FLUSH,
    apply('old'),
    k4.w(0, 1),
  ]),
  qcow2('snapshot rename', { options: plain4, fill: storied }, [
    k4.w(3, 1),
    rename('old', 'a much longer name than before, so that the table grows'),
    k4.w(3, 1),
    snapshot('old'),
    rename('old', 'x'),
    FLUSH,
  ]),
  qcow2('snapshots of 512 B clusters', { options: { size: 128 * KIB, clusterBits: 9 }, fill: storied }, [
    b512.w(60, 8),
    snapshot('a'),
    b512.w(61, 2),
    b512.w(140, 70),
    snapshot('b'),
    remove('a'),
    b512.w(62, 1),
    apply('old'),
    b512.w(1, 3),
    remove('b'),
    remove('old'),
    b512.w(2, 30),
    FLUSH,
  ]),
  qcow2('snapshots over a backing file', { options: { ...plain4, backing: RAW_BASE } }, [
    k4.w(0.5, 2),
    snapshot('a'),
    k4.w(1.5, 2),
    k4.d(0, 2),
    snapshot('b'),
    apply('a'),
    k4.w(1.75, 0.5),
    remove('b'),
    remove('a'),
    k4.d(0, 4),
    FLUSH,
  ]),
  qcow2(
    'snapshots of subclusters',
    { options: { size: 256 * KIB, clusterBits: 14, extended: true }, fill: (image) => data(image, 0, 4) },
    [
      { do: 'write', at: 512, length: 700 },
      snapshot('a'),
      { do: 'write', at: 1024, length: 512 },
      { do: 'zero', at: 20_000, length: 8000 },
      { do: 'discard', at: 0, length: 16_384 },
      snapshot('b'),
      apply('a'),
      { do: 'write', at: 3000, length: 5000 },
      remove('a'),
      remove('b'),
      FLUSH,
    ],
  ),
  qcow2('discard of what a snapshot holds', { options: plain4, fill: storied }, [
    k4.d(0, 8),
    FLUSH,
    k4.w(0, 2),
    remove('old'),
    k4.d(0, 4),
    k4.w(8, 8),
    FLUSH,
  ]),
];

const sizes: readonly Workload[] = [
  qcow2('growing the disk', { options: { size: 64 * KIB, clusterBits: 9 }, fill: (image) => data(image, 0, 8) }, [
    b512.w(120, 8),
    b512.s(512),
    b512.w(500, 12),
    FLUSH,
    b512.s(8192),
    b512.w(8000, 20),
    FLUSH,
  ]),
  qcow2(
    'growing over a longer backing file',
    {
      options: { size: 70 * KIB, clusterBits: 12, backing: RAW_BASE },
      baseBytes: 128 * KIB,
    },
    [k4.w(16, 1), k4.s(24), k4.w(20, 1), FLUSH, k4.s(40), k4.w(39, 1)],
  ),
  qcow2('shrinking the disk', { options: plain4, fill: (image) => data(image, 0, 32) }, [
    k4.w(30, 1),
    k4.s(16),
    k4.w(15.5, 0.5),
    FLUSH,
    k4.s(32),
    k4.w(20, 2),
    FLUSH,
  ]),
  qcow2('sizes and snapshots', { options: plain4, fill: storied }, [
    k4.s(48),
    k4.w(40, 4),
    snapshot('large'),
    k4.w(41, 1),
    apply('old'),
    k4.w(31, 1),
    apply('large'),
    remove('old'),
    k4.w(47, 1),
    FLUSH,
  ]),
];

/** Clusters stored packed over every kind of cluster, several of them in one of the host, and what happens to them later. */
function packing(name: string, options: Omit<SampleOptions, 'size'>): Workload {
  const unit = 2 ** (options.clusterBits ?? 16);
  const { w, c, z, d } = alphabet(unit);
  const alone = options.refcountBits === 1;
  const fill = (image: SampleImage): void => (alone ? data(image, 0, 4) : storied(image));
  const workload = qcow2(`packing, ${name}`, { options: { ...options, size: 16 * unit - 512 }, fill }, [
    c(8, 3),
    FLUSH,
    c(0, 5),
    w(8.5, 0.25),
    { do: 'publish' },
    c(11, 4),
    d(9, 1),
    FLUSH,
    ...(alone ? [] : [snapshot('new')]),
    c(10, 2),
    w(12.25, 1),
    c(9, 1),
    c(9, 1),
    FLUSH,
    ...(alone ? [] : [remove('old')]),
    z(4, 8),
    ...(unit > 512 ? [c(15, 1 - 512 / unit)] : []),
    { do: 'reopen' },
    c(3, 7),
    w(5, 0.5),
  ]);
  return { ...workload, oneIn: 4 };
}

const packedUnits: readonly Workload[] = [
  packing('512 B', { clusterBits: 9 }),
  packing('4 KiB', { clusterBits: 12 }),
  packing('64 KiB', {}),
  packing('zstd, subclusters', { clusterBits: 14, extended: true, compression: 'zstd' }),
  packing('backed', { clusterBits: 12, backing: RAW_BASE }),
  packing('refcounts of 1 bit', { clusterBits: 12, refcountBits: 1 }),
  { ...packing('past no cache', { clusterBits: 12 }), unbuffered: true },
];

const k16 = alphabet(16 * KIB);

/** Growing with the new part preallocated: places, tables and refcounts come with the size or not at all. */
const preallocated: readonly Workload[] = [
  qcow2('growing by metadata, 512 B', { options: { size: 40 * KIB, clusterBits: 9 }, fill: (i) => data(i, 0, 8) }, [
    b512.p(300, 'metadata'),
    b512.w(250, 40),
    b512.d(280, 10),
    FLUSH,
    b512.p(900, 'full'),
    b512.w(899, 1),
  ]),
  qcow2('growing by all three, with a snapshot', { options: plain4, fill: storied }, [
    k4.w(31, 1),
    k4.p(40, 'metadata'),
    snapshot('large'),
    k4.w(36, 4),
    k4.p(48, 'falloc'),
    apply('old'),
    k4.p(44, 'full'),
    k4.w(32.5, 4),
    remove('old'),
    FLUSH,
    k4.s(16),
  ]),
  qcow2('growing by metadata, version 2', { options: { ...plain4, version: 2 }, fill: (image) => data(image, 0, 4) }, [
    k4.p(40.5, 'metadata'),
    k4.w(39, 1.5),
    FLUSH,
  ]),
  qcow2(
    'growing by metadata, backed, subclusters',
    { options: { size: 100 * KIB, clusterBits: 14, extended: true, backing: RAW_BASE }, baseBytes: 160 * KIB },
    [k16.w(1, 1), k16.p(12, 'metadata'), k16.w(6.5, 0.25), k16.w(8, 2), FLUSH, k16.w(11, 0.5)],
  ),
  qcow2(
    'growing by metadata over a longer backing file',
    { options: { size: 70 * KIB, clusterBits: 12, backing: RAW_BASE }, baseBytes: 128 * KIB },
    [k4.w(16, 1), k4.p(24, 'metadata'), k4.w(20, 1), FLUSH, k4.p(40, 'falloc'), k4.w(39, 1)],
  ),
  qcow2(
    'growing by all three, data file',
    { options: { ...plain4, dataFile: { name: 'data.bin', raw: false } }, fill: (image) => data(image, 0, 4) },
    [
      k4.w(20, 12),
      k4.s(16),
      k4.p(24, 'metadata'),
      k4.w(23, 1),
      FLUSH,
      k4.p(30, 'falloc'),
      k4.p(32, 'full'),
      k4.w(31, 1),
    ],
  ),
];

/** QEMU's check would need a passphrase. */
const encrypted: Workload = {
  ...qcow2(
    'growing by all three, encrypted',
    { options: { ...plain4, cryptMethod: 1 }, fill: (image) => data(image, 0, 4) },
    [
      k4.p(40, 'metadata'),
      k4.w(36.5, 2),
      FLUSH,
      k4.p(48, 'falloc'),
      k4.w(47, 1),
      snapshot('old'),
      k4.p(52, 'full'),
      k4.w(46, 6),
      k4.d(45, 4),
      remove('old'),
    ],
  ),
  qemu: 'nothing',
  wholeSectors: true,
};

const lazy: SampleOptions = { ...plain4, dirty: true, lazyRefcounts: true };

/** Images that a crashed writer left, repaired before the first change. */
const dirty: readonly Workload[] = [
  qcow2('dirty', { options: lazy, fill: (image) => data(image, 0, 12), afterwards: (bytes) => countedLazily(bytes) }, [
    FLUSH,
    k4.w(4.5, 1),
    k4.w(20, 2),
    FLUSH,
    k4.d(0, 4),
    k4.w(13, 2),
  ]),
  qcow2(
    'dirty, with a snapshot and a bitmap',
    {
      options: { ...lazy, bitmaps: [{ name: 'b', granularity: 65_536, inUse: false, auto: true }] },
      fill: storied,
      afterwards: (bytes) => countedLazily(bytes),
    },
    [k4.w(1, 1), k4.d(0, 1), snapshot('new'), k4.w(2, 3), remove('old'), k4.w(30, 2), FLUSH],
  ),
  qcow2(
    'dirty, refcount block lost, 512 B',
    {
      options: { ...lazy, size: 200 * KIB, clusterBits: 9 },
      fill: (image) => data(image, 0, 300),
      afterwards: (bytes) => countedLazily(bytes, [1]),
    },
    [b512.s(500), b512.w(250, 100), FLUSH, b512.d(0, 100), b512.w(20, 4)],
  ),
  qcow2(
    'dirty, subclusters, only its leaks',
    { options: { ...lazy, size: 256 * KIB, clusterBits: 14, extended: true }, fill: (image) => data(image, 0, 8) },
    [snapshot('first'), k16.w(0.25, 1), k16.w(10.5, 2), FLUSH],
  ),
].map((workload) => ({ ...workload, beginsDirty: true }));

/** Hand-written workloads of qcow2. */
export const qcow2Workloads: readonly Workload[] = [
  ...clusterKinds,
  ...single,
  ...snapshots,
  ...sizes,
  ...packedUnits,
  ...preallocated,
  encrypted,
  ...dirty,
];
