/** Ending a mount from outside, and knowing that it has ended. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mount } from '../fuse/mountinfo.js';
import { unmount } from '../fuse/unmount.js';
import { ImgfsError } from '../lib/errors.js';
import { holdersOf } from './holders.js';
import { isDeadMount, resolveMountpoint } from './mountpoint.js';
import { ourMountAt, ourMounts } from './mounts.js';
import { isAlive, type Process, takeFailure } from './records.js';
import { serverOf } from './servers.js';

/** Between two looks at whether the process is gone, in milliseconds. */
const POLL = 10;

export interface EndOptions {
  readonly lazy: boolean;
  readonly timeoutMs: number;
}

/**
 * Unmounts and returns when the process that served the mount is gone, and with it every lock on the image. Throws
 * `busy` naming who uses the mount, `missing` where there is no mount of ours, `system` when the process outlives the
 * time-out, and what the process itself could not do at the end: write out the last of the data (of other users' mounts
 * root is not told that). A lazy end of a mount in use returns at once: its process goes when its last user does.
 */
export async function endMount(name: string, options: EndOptions): Promise<void> {
  const path = resolveMountpoint(name);
  const mount = ourMountAt(path);
  if (mount === undefined) {
    throw new ImgfsError('missing', `there is no imgfs mount on ${name}`, { hint: 'imgfs list tells where there are' });
  }
  const server = serverOf(mount);
  const inUse = options.lazy && holdersOf(path).length > 0;
  // Only a mount without a known process is looked at: a stopped one would keep us waiting.
  const dead = server === undefined && isDeadMount(path);
  try {
    await unmount(path, { lazy: options.lazy || dead });
  } catch (error) {
    if (error instanceof ImgfsError && error.reason === 'busy') throw busyError(name, path);
    throw error;
  }
  if (server === undefined || inUse || isElsewhere(mount)) return;
  await processGone(server, name, options.timeoutMs);
  const failure = takeFailure(server);
  if (failure !== undefined) throw ImgfsError.fromJSON(failure);
}

/** `busy`, naming who uses the mount. */
export function busyError(name: string, path: string): ImgfsError {
  const holders = holdersOf(path);
  const who = holders.length === 0 ? '' : ` by ${holders.join(', ')}`;
  return new ImgfsError('busy', `cannot unmount ${name}: it is in use${who}`, {
    hint: 'end that first, or detach it with imgfs umount --lazy',
  });
}

/** Taken away was a bind mount, or the mount itself and a bind mount is left: the process serves on. */
function isElsewhere(mount: Mount): boolean {
  return ourMounts().some((other) => other.device === mount.device);
}

async function processGone(server: Process, name: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (isAlive(server)) {
    if (performance.now() > deadline) {
      throw new ImgfsError('system', `${name} is unmounted but its process (pid ${server.pid}) has not ended`, {
        hint: 'the image is not released yet',
      });
    }
    await sleep(POLL);
  }
}
