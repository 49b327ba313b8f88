/** Runs of fio on one file, and what it counted. */
import { run } from './workplace.js';

const RUNTIME_MS = 500;

interface Counted {
  readonly iops: number;
  readonly bw_bytes: number;
}

interface FioReport {
  readonly jobs: readonly { readonly read: Counted; readonly write: Counted }[];
}

export interface FioResult {
  readonly iops: number;
  /** MB/s. */
  readonly megabytes: number;
}

/** The work of the measures of reads and writes alike, without its direction. */
export const SMALL = {
  depth1: ['--bs=4k', '--ioengine=psync'],
  depth16: ['--bs=4k', '--ioengine=libaio', '--iodepth=16'],
} as const;

/** As much as fits into half a second. */
export const BRIEFLY = [`--runtime=${RUNTIME_MS}ms`, '--time_based'] as const;

/** Reads or writes the first `size` bytes of `file`; `direct` is how it is opened. */
export async function fio(file: string, size: number, options: readonly string[], direct = true): Promise<FioResult> {
  const { stdout } = await run('fio', [
    '--name=bench',
    `--filename=${file}`,
    `--size=${size}`,
    `--direct=${direct ? 1 : 0}`,
    '--invalidate=0',
    '--output-format=json',
    ...options,
  ]);
  const { read, write } = (JSON.parse(stdout) as FioReport).jobs[0]!;
  const { iops, bw_bytes } = read.bw_bytes > 0 ? read : write;
  return { iops, megabytes: bw_bytes / 1e6 };
}
