/** The images that the model test runs on: some described here, some that their formats bring along. */
import type { SampleOptions } from '../../src/formats/qcow2/samples/image.js';
import type { QemuJudge, SampleFile, WritableSample } from '../../src/image/samples.js';
import { imageFormat } from '../crash/rig.js';
import { countedLazily, data, packed, qcow2Start, RAW_BASE, rawStart } from '../crash/starts.js';
import { imageFormats, samplesOf } from '../support/samples.js';

export interface Configuration {
  readonly name: string;
  readonly format: string;
  readonly files: readonly SampleFile[];
  /** Unit that lengths and places are chosen around. */
  readonly unit: number;
  readonly snapshots: boolean;
  readonly resize: 'always' | 'without snapshots' | 'grow' | 'never';
  readonly qemu: QemuJudge;
  /** Why space may be lost. */
  readonly loses?: string | undefined;
  /** The disk never grows beyond this. */
  readonly most: number;
}

const MIB = 1024 * 1024;

interface More {
  readonly clusters?: number;
  readonly snapshots?: boolean;
  readonly resize?: Configuration['resize'];
  readonly baseBytes?: number;
  readonly afterwards?: (bytes: Buffer) => Uint8Array;
}

function qcow2(name: string, options: Omit<SampleOptions, 'size'>, more: More = {}): Configuration {
  const unit = 2 ** (options.clusterBits ?? 16);
  const size = (more.clusters ?? 64) * unit;
  const files = qcow2Start({
    options: { ...options, size },
    fill: (image) => {
      data(image, 0, 4);
      // Compressed clusters may share a host cluster, which then needs a refcount above 1.
      if (options.dataFile === undefined && options.refcountBits !== 1) packed(image, 6, 12);
    },
    ...(more.baseBytes === undefined ? {} : { baseBytes: more.baseBytes }),
    ...(more.afterwards === undefined ? {} : { afterwards: more.afterwards }),
  });
  const { snapshots = true, resize = 'always' } = more;
  return { name, format: 'qcow2', files, unit, snapshots, resize, most: size * 1.5, qemu: 'checks' };
}

const RAW: Configuration = {
  name: 'raw',
  format: 'raw',
  files: rawStart(MIB),
  unit: 4096,
  snapshots: false,
  resize: 'always',
  most: 2 * MIB,
  qemu: 'reads',
};

const all: readonly Configuration[] = [
  RAW,
  qcow2('qcow2', {}),
  qcow2('qcow2, 512 B', { clusterBits: 9 }, { clusters: 512 }),
  qcow2('qcow2, 4 KiB, backed', { clusterBits: 12, backing: RAW_BASE }, { clusters: 256, baseBytes: 1.2 * MIB }),
  qcow2('qcow2, subclusters', { clusterBits: 14, extended: true }),
  qcow2('qcow2, subclusters, backed', { clusterBits: 16, extended: true, backing: RAW_BASE }, { clusters: 24 }),
  // Its snapshots do not record the size of the disk.
  qcow2('qcow2, version 2', { version: 2, clusterBits: 12 }, { clusters: 256, resize: 'without snapshots' }),
  qcow2('qcow2, refcounts of 1 bit', { clusterBits: 12, refcountBits: 1 }, { clusters: 256, snapshots: false }),
  qcow2('qcow2, refcounts of 8 bits', { clusterBits: 12, refcountBits: 8 }, { clusters: 256 }),
  qcow2('qcow2, refcounts of 64 bits', { clusterBits: 10, refcountBits: 64 }, { clusters: 512 }),
  qcow2(
    'qcow2, left by a crash',
    { clusterBits: 12, dirty: true, lazyRefcounts: true },
    { clusters: 256, afterwards: (bytes) => countedLazily(bytes) },
  ),
  qcow2('qcow2, data file', { clusterBits: 12, dataFile: { name: 'data.raw' } }, { clusters: 256, snapshots: false }),
  ...imageFormats.flatMap(({ name }) => (samplesOf(name).writable?.() ?? []).map((sample) => ofSample(name, sample))),
];

function ofSample(format: string, sample: WritableSample): Configuration {
  const { name, unit, modelUnits = 64, snapshots = false, resize, qemu, loses } = sample;
  return {
    name: `${format}, ${name}`,
    format,
    files: sample.files(modelUnits),
    unit,
    snapshots,
    resize: resize === 'both' ? 'always' : (resize ?? 'never'),
    most: unit * modelUnits * (resize === undefined ? 1 : 1.5),
    qemu,
    loses,
  };
}

/** Those of formats that can be written. */
export function configurations(): readonly Configuration[] {
  return all.filter(({ format }) => imageFormat(format).can.write);
}
