/** Taking a mount away, from the process that serves it or from any other. */
import { Worker } from 'node:worker_threads';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { libc, UMOUNT } from '../lib/libc.js';
import { unmountAsUser } from './fusermount.js';

export interface UnmountOptions {
  readonly lazy: boolean;
  /** Not on this thread, which the kernel may have to ask for something before it can unmount. */
  readonly elsewhere?: boolean;
}

/** What the thread that unmounts is told, and what it answers: the errno's name where it failed. */
export interface Task {
  readonly mountpoint: string;
  readonly flags: number;
}
export interface Outcome {
  readonly code: string | undefined;
}

/**
 * Unmounts what is on top of `mountpoint` (absolute): root by umount2(2), a user through the set-uid fusermount3.
 * Resolves when the kernel has taken it out of the tree; the server may still be at work for a moment, with `lazy` for
 * as long as files are open. Throws `busy` while it is in use (not when lazy), `missing` where nothing is mounted.
 */
export async function unmount(mountpoint: string, options: UnmountOptions): Promise<void> {
  const native = process.geteuid?.() === 0 ? libc() : undefined;
  if (native !== undefined) {
    const flags = UMOUNT.NOFOLLOW + (options.lazy ? UMOUNT.DETACH : 0);
    try {
      if (options.elsewhere === true) await unmountElsewhere({ mountpoint, flags });
      else native.umount(mountpoint, flags);
    } catch (error) {
      throw rootError(mountpoint, error);
    }
    return;
  }
  const outcome = await unmountAsUser(mountpoint, options);
  if (!outcome.ok) throw userError(mountpoint, outcome.text);
}

async function unmountElsewhere(task: Task): Promise<void> {
  const worker = new Worker(new URL('./unmount-worker.js', import.meta.url), { workerData: task });
  const { code } = await new Promise<Outcome>((resolve, reject) => {
    worker.once('message', resolve).once('error', reject);
  });
  if (code !== undefined) throw Object.assign(new Error(`umount: ${code}`), { code });
}

function rootError(mountpoint: string, error: unknown): unknown {
  if (systemCode(error) === 'EBUSY') return busy(mountpoint);
  if (systemCode(error) === 'EINVAL') return notMounted(mountpoint);
  return hostError(`cannot unmount ${mountpoint}`, error);
}

function userError(mountpoint: string, text: string): ImgfsError {
  if (text.includes('busy')) return busy(mountpoint);
  if (text.includes('not found in')) return notMounted(mountpoint);
  return new ImgfsError('permission', `cannot unmount ${mountpoint}: ${text === '' ? 'fusermount3 failed' : text}`);
}

function busy(mountpoint: string): ImgfsError {
  return new ImgfsError('busy', `cannot unmount ${mountpoint}: it is in use`, {
    hint: `see who uses it with "fuser -vm ${mountpoint}", or unmount lazily`,
  });
}

function notMounted(mountpoint: string): ImgfsError {
  return new ImgfsError('missing', `cannot unmount ${mountpoint}: nothing is mounted there`);
}
