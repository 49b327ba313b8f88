/** What is measured, each by a tool people have: fio, dd, cat. Larger is better unless said otherwise. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import type { Server } from './servers.js';

/** Seconds that fio measures for. */
const FIO_SECONDS = 2;

export interface Images {
  readonly plain: string;
  readonly zlib: string;
  readonly zstd: string;
  /** The same disk as a raw file. */
  readonly raw: string;
  readonly bytes: number;
}

/** One cell of one round. */
export type Sample = number;

export interface Measure {
  readonly id: string;
  readonly name: string;
  readonly unit: string;
  readonly smallerIsBetter?: true;
  /** The factor by which imgfs is expected to be better than qemu-storage-daemon. */
  readonly expected?: number;
  readonly image: Exclude<keyof Images, 'raw' | 'bytes'>;
  run(server: Server, image: string, images: Images, home: string): Promise<Sample>;
}

/** A measure of a server that is up: it is started before and stopped after, neither of them timed. */
function ofFile(
  measure: Omit<Measure, 'run' | 'image'> & { readonly image?: Measure['image'] },
  sample: (file: string, images: Images, pid: number | undefined) => Sample,
): Measure {
  return {
    image: 'plain',
    ...measure,
    async run(server, image, images, home) {
      const serving = await server.start(image, home, images.raw);
      try {
        return sample(serving.file, images, serving.pid);
      } finally {
        await serving.stop();
      }
    },
  };
}

interface FioReport {
  readonly jobs: readonly { readonly read: { readonly bw_bytes: number; readonly iops: number } }[];
}

function fio(file: string, ...options: readonly string[]): { readonly bytes: number; readonly iops: number } {
  const common = [
    '--name=bench',
    `--filename=${file}`,
    '--direct=1',
    '--readonly',
    '--time_based',
    '--group_reporting',
  ];
  const args = [...common, `--runtime=${FIO_SECONDS}`, '--output-format=json', ...options];
  const report = JSON.parse(execFileSync('fio', args, { encoding: 'utf8' })) as FioReport;
  const read = report.jobs[0]?.read;
  if (read === undefined) throw new Error('fio reported nothing');
  return { bytes: read.bw_bytes, iops: read.iops };
}

/** The image stays warm, the view's own pages do not: each server begins with nothing of its own cached. */
function sequential(file: string, image: string, bytes: number): number {
  fs.writeFileSync('/proc/sys/vm/drop_caches', '1');
  execFileSync('cat', [image], { stdio: ['ignore', 'ignore', 'ignore'], maxBuffer: 1 << 30 });
  const start = performance.now();
  execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M'], { stdio: 'ignore' });
  return bytes / ((performance.now() - start) / 1000);
}

/** Proportional memory of a process after it has served 256 MiB, in MiB. */
function memoryAfterUse(file: string, pid: number | undefined): number {
  execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M', 'count=256', 'iflag=direct'], { stdio: 'ignore' });
  if (pid === undefined) return 0;
  const rollup = fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+([0-9]+) kB/m.exec(rollup)?.[1] ?? 0) / 1024;
}

async function firstByte(server: Server, image: string, images: Images, home: string): Promise<number> {
  const start = performance.now();
  const serving = await server.start(image, home, images.raw);
  const fd = fs.openSync(serving.file, 'r');
  fs.readSync(fd, Buffer.alloc(512), 0, 512, 0);
  const taken = performance.now() - start;
  fs.closeSync(fd);
  await serving.stop();
  return taken;
}

export const MEASURES: readonly Measure[] = [
  ofFile({ id: 'direct-1m', name: 'direct 1 MiB read', unit: 'MB/s', expected: 3 }, (file) => {
    return fio(file, '--rw=read', '--bs=1M', '--ioengine=psync').bytes / 1e6;
  }),
  ofFile({ id: 'sequential', name: 'buffered sequential read', unit: 'MB/s', expected: 2.5 }, (file, images) => {
    return sequential(file, images.plain, images.bytes) / 1e6;
  }),
  ofFile({ id: 'random-qd1', name: '4 KiB random read, depth 1', unit: 'IOPS', expected: 2 }, (file) => {
    return fio(file, '--rw=randread', '--bs=4k', '--ioengine=psync').iops;
  }),
  ofFile({ id: 'random-qd16', name: '4 KiB random read, depth 16', unit: 'IOPS', expected: 2 }, (file) => {
    return fio(file, '--rw=randread', '--bs=4k', '--ioengine=libaio', '--iodepth=16').iops;
  }),
  ofFile({ id: 'zlib', name: 'zlib sequential read', unit: 'MB/s', expected: 1, image: 'zlib' }, (file, images) => {
    return sequential(file, images.zlib, images.bytes) / 1e6;
  }),
  ofFile({ id: 'zstd', name: 'zstd sequential read', unit: 'MB/s', expected: 1, image: 'zstd' }, (file, images) => {
    return sequential(file, images.zstd, images.bytes) / 1e6;
  }),
  {
    id: 'first-byte',
    name: 'command to first byte',
    unit: 'ms',
    smallerIsBetter: true,
    image: 'plain',
    run: firstByte,
  },
  ofFile({ id: 'memory', name: 'memory after 256 MiB', unit: 'MiB', smallerIsBetter: true }, (file, _images, pid) => {
    return memoryAfterUse(file, pid);
  }),
];
