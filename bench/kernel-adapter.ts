/**
 * What the kernel adapter costs, without any image: fio on a mount of adapter-tree.ts, medians of three runs.
 * Needs root and fio. IMGFS_BENCH_WORKERS sets the number of workers; IMGFS_BENCH_FILE names a file of 1 GiB (best in
 * /dev/shm) to be read as well.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { Mounted, mountpoint } from '../test/support/mounted.js';

const RUNS = 3;
const SECONDS = 2;
const TICKS_PER_SECOND = 100;
const MODULE = new URL('../src/fuse/kernel/index.js', import.meta.url).href;
const TREE = new URL('./adapter-tree.js', import.meta.url).href;

const JOBS: Readonly<Record<string, readonly string[]>> = {
  '4k direct, depth 1': ['--bs=4k', '--rw=randread', '--ioengine=psync', '--direct=1'],
  '4k direct, depth 16': ['--bs=4k', '--rw=randread', '--ioengine=libaio', '--iodepth=16', '--direct=1'],
  '1M direct, depth 1': ['--bs=1M', '--rw=read', '--ioengine=psync', '--direct=1'],
  '1M direct, depth 4': ['--bs=1M', '--rw=read', '--ioengine=libaio', '--iodepth=4', '--direct=1'],
  '1M buffered, cold': ['--bs=1M', '--rw=read', '--ioengine=psync', '--invalidate=1'],
};

interface Run {
  readonly iops: number;
  readonly bytes: number;
  readonly median: number;
  readonly cpu: number;
}

interface FioReport {
  readonly jobs: readonly {
    readonly read: {
      readonly iops: number;
      readonly bw_bytes: number;
      readonly total_ios: number;
      readonly clat_ns: { readonly percentile: Readonly<Record<string, number>> };
    };
  }[];
}

/** Processor time of a process and its threads, in seconds. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

async function fio(mounted: Mounted, file: string, options: readonly string[]): Promise<Run> {
  const before = cpuSeconds(mounted.process.pid!);
  const { stdout } = await promisify(execFile)('fio', [
    '--name=bench',
    `--filename=${mounted.path}/${file}`,
    '--size=1G',
    `--runtime=${SECONDS}`,
    '--time_based',
    '--output-format=json',
    ...options,
  ]);
  const { read } = (JSON.parse(stdout) as FioReport).jobs[0]!;
  const cpu = (cpuSeconds(mounted.process.pid!) - before) / read.total_ios;
  return {
    iops: read.iops,
    bytes: read.bw_bytes,
    median: read.clat_ns.percentile['50.000000']! / 1000,
    cpu: cpu * 1e6,
  };
}

async function main(): Promise<void> {
  const at = mountpoint('directory');
  const mounted = await Mounted.start(MODULE, 'kernel', { mountpoint: at.path, readOnly: true, served: TREE });
  try {
    for (const file of process.env.IMGFS_BENCH_FILE === undefined ? ['memory.raw'] : ['memory.raw', 'file.raw']) {
      for (const [name, options] of Object.entries(JOBS)) {
        const runs: Run[] = [];
        for (let run = 0; run < RUNS; run++) runs.push(await fio(mounted, file, options));
        const { iops, bytes, median, cpu } = runs.sort((a, b) => a.iops - b.iops)[Math.floor(RUNS / 2)]!;
        console.log(
          `${file.padEnd(11)} ${name.padEnd(20)} ${median.toFixed(1).padStart(7)} us median ` +
            `${iops.toFixed(0).padStart(7)} /s ${(bytes / 1e6).toFixed(0).padStart(6)} MB/s ${cpu.toFixed(1)} us CPU each`,
        );
      }
    }
  } finally {
    await mounted.clear();
    at.remove();
  }
}

await main();
