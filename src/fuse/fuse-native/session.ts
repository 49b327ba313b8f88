import { setTimeout as sleep } from 'node:timers/promises';
import { ImgfsError } from '../../lib/errors.js';
import type { Session } from '../adapter.js';
import { deviceAt, mounts } from '../mountinfo.js';
import { unmount } from '../unmount.js';
import { isFuseDevice } from './devices.js';

/** How soon an end that was not ours (plain umount) is noticed: nothing is called then, so it has to be looked for. */
const POLL_MS = 200;
/** The same for the first moments after an end of ours. */
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
 * A mount from when it is live to its end. What tells the end is libfuse's descriptor and not the mount table: after a
 * lazy unmount the table is empty while open files are still served.
 */
export class NativeSession implements Session {
  readonly ended: Promise<void>;
  #wake = new AbortController();
  #eager = 0;

  constructor(private readonly live: Live) {
    this.ended = this.#watch();
    // It may reject before anyone has had the occasion to look.
    this.ended.catch(() => undefined);
  }

  async unmount(options: { readonly lazy: boolean }): Promise<void> {
    const { mountpoint, device } = this.live;
    if (device !== undefined) {
      if (!this.#isMounted()) return;
      if (deviceAt(mountpoint) !== device) {
        throw new ImgfsError('busy', `cannot unmount ${mountpoint}: something else is mounted over it`, {
          hint: 'unmount that first',
        });
      }
    }
    await unmount(mountpoint, options);
    this.#eager = EAGER_POLLS;
    this.#wake.abort();
    this.#wake = new AbortController();
  }

  #isMounted(): boolean {
    const { mountpoint, device } = this.live;
    return mounts().some((mount) => mount.mountpoint === mountpoint && mount.device === device);
  }

  async #watch(): Promise<void> {
    while (isFuseDevice(this.live.descriptor)) {
      this.#eager = Math.max(0, this.#eager - 1);
      const interval = this.#eager > 0 ? EAGER_POLL_MS : POLL_MS;
      await sleep(interval, undefined, { signal: this.#wake.signal }).catch(() => undefined);
    }
    this.live.letGo();
    // Where serving ended and the mount is still there, every use of it would fail: it is taken away.
    if (this.live.device === undefined || !this.#isMounted()) return;
    await this.unmount({ lazy: true });
    throw new ImgfsError('io', `the mount on ${this.live.mountpoint} was aborted`);
  }
}
