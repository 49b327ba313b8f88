import { setTimeout as sleep } from 'node:timers/promises';
import { ImgfsError } from '../../lib/errors.js';
import type { Session } from '../adapter.js';
import { deviceAt } from '../mountinfo.js';
import { unmount } from '../unmount.js';
import { isFuseDevice } from './devices.js';

/** How soon an end that was not ours (plain umount) is noticed: nothing is called then, so it has to be looked for. */
const POLL_MS = 200;
/** The same while an end of ours is under way. */
const EAGER_POLL_MS = 5;
const EAGER_POLLS = 100;

/** What is known of a mount that has just been made. */
export interface Live {
  readonly mountpoint: string;
  /** Our descriptor of /dev/fuse, which libfuse owns and closes. */
  readonly descriptor: string;
  /** The mount's device number; undefined where it was gone again at once. */
  readonly device: string | undefined;
  /** Lets go of the event loop; called once, after the last request. */
  readonly letGo: () => void;
}

/**
 * Watches a mount until its end. What counts is libfuse's descriptor and not the mount table: after a lazy unmount the
 * table is empty while open files are still served.
 */
export function watch(live: Live): Session {
  let wake = new AbortController();
  let eager = 0;
  const ended = (async () => {
    while (isFuseDevice(live.descriptor)) {
      eager = Math.max(0, eager - 1);
      await sleep(eager > 0 ? EAGER_POLL_MS : POLL_MS, undefined, { signal: wake.signal }).catch(() => {});
    }
    live.letGo();
    await clearDeadMount(live);
  })();
  return {
    ended,
    async unmount(options) {
      await unmount(live.mountpoint, options);
      eager = EAGER_POLLS;
      wake.abort();
      wake = new AbortController();
    },
  };
}

/** Where serving ended and the mount is still there, every use of it would fail: taken away, and told. */
async function clearDeadMount(live: Live): Promise<void> {
  if (live.device === undefined || deviceAt(live.mountpoint) !== live.device) return;
  await unmount(live.mountpoint, { lazy: true });
  throw new ImgfsError('io', `the connection of ${live.mountpoint} to the kernel was aborted`);
}
