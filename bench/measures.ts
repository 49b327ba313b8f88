/** What is measured. Each measure is one short run on one server; the runner alternates and repeats. */
import fs from 'node:fs';
import type { ImageName } from './images.js';
import type { Serving } from './servers.js';
import { run } from './workplace.js';

export interface Measure {
  readonly id: string;
  readonly title: string;
  readonly unit: 'MB/s' | 'IOPS' | 'ms' | 'ms/GB' | 'MiB';
  readonly better: 'more' | 'less';
  readonly image: ImageName;
  /** What the comparison with qemu-storage-daemon should come to; undefined where nothing was promised. */
  readonly expected?: number;
  /** The server is started anew for each run: what is measured is the start, or what it has become since. */
  readonly fresh?: true;
  /** The value; undefined where the server has no such thing. */
  once(serving: Serving): Promise<number | undefined>;
}

const FIO_RUNTIME_MS = 500;
const MS_PER_TICK = 10;

/** The view's pages leave the cache, the image's stay. Of the raw file they are the same pages: it is always warm. */
async function coolDown(serving: Serving): Promise<void> {
  if (serving.pid !== undefined) await run('dd', [`if=${serving.view}`, 'iflag=nocache', 'count=0', 'status=none']);
}

async function sequential(serving: Serving): Promise<number> {
  await coolDown(serving);
  const { stderr } = await run('dd', [`if=${serving.view}`, 'of=/dev/null', 'bs=1M']);
  const seconds = Number(/copied, ([\d.e-]+) s/.exec(stderr)?.[1]);
  return serving.image.size / seconds / 1e6;
}

interface FioReport {
  readonly jobs: readonly { readonly read: { readonly iops: number; readonly bw_bytes: number } }[];
}

async function fio(serving: Serving, ...options: readonly string[]): Promise<{ iops: number; megabytes: number }> {
  const { stdout } = await run('fio', [
    '--name=bench',
    `--filename=${serving.view}`,
    `--size=${serving.image.size}`,
    `--runtime=${FIO_RUNTIME_MS}ms`,
    '--time_based',
    '--readonly',
    '--direct=1',
    '--invalidate=0',
    '--output-format=json',
    ...options,
  ]);
  const { read } = (JSON.parse(stdout) as FioReport).jobs[0]!;
  return { iops: read.iops, megabytes: read.bw_bytes / 1e6 };
}

/** Resident memory: a program's own text counts in full, so it does not depend on what else runs. */
function memoryOf(serving: Serving): number | undefined {
  if (serving.pid === undefined) return undefined;
  const status = fs.readFileSync(`/proc/${serving.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
}

/** What a sequential read costs the server in processor time: what is left to compare on a machine with other work. */
async function cost(serving: Serving): Promise<number | undefined> {
  if (serving.pid === undefined) return undefined;
  const before = processorMs(serving.pid);
  await sequential(serving);
  return (processorMs(serving.pid) - before) / (serving.image.size / 1e9);
}

/** Of the process and all its threads, those that have ended included. */
function processorMs(pid: number): number {
  const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
}

const memory = { unit: 'MiB', better: 'less', image: 'plain', fresh: true } as const;

export const MEASURES: readonly Measure[] = [
  {
    id: 'buffered',
    title: 'sequential read, buffered',
    unit: 'MB/s',
    better: 'more',
    image: 'plain',
    expected: 2.5,
    once: sequential,
  },
  {
    id: 'direct-1m',
    title: '1 MiB reads, O_DIRECT',
    unit: 'MB/s',
    better: 'more',
    image: 'plain',
    expected: 3,
    once: async (serving) => (await fio(serving, '--rw=read', '--bs=1M', '--ioengine=psync')).megabytes,
  },
  {
    id: 'random-qd1',
    title: '4 KiB random, O_DIRECT, depth 1',
    unit: 'IOPS',
    better: 'more',
    image: 'plain',
    expected: 2,
    once: async (serving) => (await fio(serving, '--rw=randread', '--bs=4k', '--ioengine=psync')).iops,
  },
  {
    id: 'random-qd16',
    title: '4 KiB random, O_DIRECT, depth 16',
    unit: 'IOPS',
    better: 'more',
    image: 'plain',
    expected: 2,
    once: async (serving) => (await fio(serving, '--rw=randread', '--bs=4k', '--ioengine=libaio', '--iodepth=16')).iops,
  },
  {
    id: 'zlib',
    title: 'sequential read, zlib clusters',
    unit: 'MB/s',
    better: 'more',
    image: 'zlib',
    expected: 1,
    once: sequential,
  },
  {
    id: 'zstd',
    title: 'sequential read, zstd clusters',
    unit: 'MB/s',
    better: 'more',
    image: 'zstd',
    expected: 1,
    once: sequential,
  },
  {
    id: 'cost',
    title: 'processor time, sequential read',
    unit: 'ms/GB',
    better: 'less',
    image: 'plain',
    once: cost,
  },
  {
    id: 'cost-zlib',
    title: 'processor time, zlib clusters',
    unit: 'ms/GB',
    better: 'less',
    image: 'zlib',
    once: cost,
  },
  {
    id: 'first-byte',
    title: 'command to first byte',
    unit: 'ms',
    better: 'less',
    image: 'plain',
    fresh: true,
    once: async (serving) => (serving.pid === undefined ? undefined : serving.firstByteMs),
  },
  { id: 'memory-idle', title: 'memory (RSS), idle', ...memory, once: async (serving) => memoryOf(serving) },
  {
    id: 'memory-used',
    title: 'memory (RSS), after reading all',
    ...memory,
    once: async (serving) => {
      await sequential(serving);
      return memoryOf(serving);
    },
  },
];
