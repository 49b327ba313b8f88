/** Ending a mount from outside, and knowing that it has ended. */
import { unmount } from '../fuse/unmount.js';
import { ImgfsError } from '../lib/errors.js';
import { holdersOf } from './holders.js';
import { isDeadMount, resolveMountpoint } from './mountpoint.js';
import { MOUNT_TYPE, mountAt } from './mounts.js';
import { isAlive, liveRecords } from './records.js';

/** Between two looks at whether the process is gone, in milliseconds. */
const POLL = 10;

export interface EndOptions {
  readonly lazy: boolean;
  readonly timeoutMs: number;
}

/**
 * Unmounts and returns when the process that served the mount is gone, and with it every lock on the image. Throws
 * `busy` naming who uses the mount, `missing` where there is no mount of ours, `system` when the process outlives the
 * time-out. A lazy end of a mount in use returns at once: its process goes when its last user does.
 */
export async function endMount(name: string, options: EndOptions): Promise<void> {
  const path = resolveMountpoint(name);
  if (mountAt(path)?.type !== MOUNT_TYPE) {
    throw new ImgfsError('missing', `there is no imgfs mount on ${name}`, { hint: 'imgfs list tells where there are' });
  }
  const dead = isDeadMount(path);
  const server = liveRecords().find((record) => record.mountpoint === path);
  const holders = options.lazy ? holdersOf(path) : [];
  try {
    await unmount(path, { lazy: options.lazy || dead });
  } catch (error) {
    if (error instanceof ImgfsError && error.reason === 'busy') throw busy(name, path);
    throw error;
  }
  if (server === undefined || holders.length > 0) return;
  const deadline = performance.now() + options.timeoutMs;
  while (isAlive(server)) {
    if (performance.now() > deadline) {
      throw new ImgfsError('system', `${name} is unmounted but its process (pid ${server.pid}) has not ended`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

function busy(name: string, path: string): ImgfsError {
  const holders = holdersOf(path);
  const who = holders.length === 0 ? '' : ` by ${holders.join(', ')}`;
  return new ImgfsError('busy', `${name} is in use${who}`, { hint: 'end that first, or use --lazy' });
}
