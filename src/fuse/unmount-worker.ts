/** umount2(2) on a thread of its own, for a server whose main thread must go on answering meanwhile. */
import { parentPort, workerData } from 'node:worker_threads';
import { systemCode } from '../lib/errors.js';
import { libc } from '../lib/libc.js';
import type { Outcome, Task } from './unmount.js';

const { mountpoint, flags } = workerData as Task;
let code: string | undefined;
try {
  libc()?.umount(mountpoint, flags);
} catch (error) {
  code = systemCode(error) ?? 'EIO';
}
parentPort?.postMessage({ code } satisfies Outcome);
