/** Raw disks: nothing to go wrong but the order of flushes and the length. */
import type { Operation } from './operations.js';
import { rawStart } from './starts.js';
import type { Workload } from './workload.js';

const KIB = 1024;

function raw(name: string, size: number, operations: readonly Operation[]): Workload {
  return { name: `raw: ${name}`, format: 'raw', files: rawStart(size), operations, qemu: 'reads' };
}

/** Hand-written workloads of raw disks. */
export const rawWorkloads: readonly Workload[] = [
  raw('writes and flushes', 64 * KIB, [
    { do: 'write', at: 0, length: 4 * KIB },
    { do: 'write', at: 20 * KIB, length: 8 * KIB },
    { do: 'flush' },
    { do: 'write', at: 2 * KIB, length: 9 * KIB },
    { do: 'write', at: 100, length: 50 },
    { do: 'write', at: 130, length: 1000 },
    { do: 'flush' },
    { do: 'flush' },
    { do: 'write', at: 63 * KIB, length: KIB },
    { do: 'reopen' },
    { do: 'write', at: 0, length: 64 * KIB },
  ]),
  raw('zeros and discards', 64 * KIB, [
    { do: 'discard', at: 0, length: 16 * KIB },
    { do: 'write', at: 8 * KIB, length: KIB },
    { do: 'flush' },
    { do: 'zero', at: 30 * KIB, length: 5 * KIB },
    { do: 'write', at: 32 * KIB, length: KIB },
    { do: 'discard', at: 31 * KIB + 17, length: 3 * KIB },
    { do: 'flush' },
    { do: 'write', at: 50 * KIB, length: KIB, zeros: true },
  ]),
  raw('sizes', 64 * KIB, [
    { do: 'write', at: 60 * KIB, length: 4 * KIB },
    { do: 'resize', size: 96 * KIB },
    { do: 'write', at: 90 * KIB, length: 4 * KIB },
    { do: 'flush' },
    { do: 'resize', size: 32 * KIB },
    { do: 'write', at: 31 * KIB, length: KIB },
    { do: 'resize', size: 70 * KIB },
    { do: 'write', at: 69 * KIB, length: KIB },
    { do: 'resize', size: 80 * KIB, preallocation: 'falloc' },
    { do: 'resize', size: 90 * KIB, preallocation: 'full' },
    { do: 'write', at: 79 * KIB, length: 2 * KIB },
  ]),
];
