/** A live mount of the kernel adapter. */
import { closeSync } from 'node:fs';
import { ImgfsError } from '../../lib/errors.js';
import type { Session } from '../adapter.js';
import { type Mount, mounts } from '../mountinfo.js';
import { unmount } from '../unmount.js';
import type { Crew } from './crew.js';

/** Our own mount in the table, or undefined once it has left it. Found there and not by stat, which would ask us. */
export function findMount(mountpoint: string, device?: string): Mount | undefined {
  return mounts().findLast(
    (mount) =>
      mount.mountpoint === mountpoint &&
      mount.type === 'fuse.imgfs' &&
      (device === undefined || mount.device === device),
  );
}

export class KernelSession implements Session {
  readonly ended: Promise<void>;

  /** Takes ownership of `fd`. `device` is the mount's number; undefined if the table could not tell it. */
  constructor(
    private readonly mountpoint: string,
    private readonly device: string | undefined,
    fd: number,
    crew: Crew,
  ) {
    this.ended = crew.ended.then(
      () => closeSync(fd),
      async (error) => {
        // With nobody to serve it, a mount would hang whoever touches it: closing the last descriptor aborts it.
        closeSync(fd);
        await this.unmount({ lazy: true });
        throw error;
      },
    );
    this.ended.catch(() => undefined);
  }

  async unmount(options: { readonly lazy: boolean }): Promise<void> {
    if (this.device !== undefined) {
      if (findMount(this.mountpoint, this.device) === undefined) return;
      const top = mounts().findLast((mount) => mount.mountpoint === this.mountpoint);
      if (top?.device !== this.device) {
        throw new ImgfsError('busy', `cannot unmount ${this.mountpoint}: something else is mounted over it`, {
          hint: 'unmount that first',
        });
      }
    }
    await unmount(this.mountpoint, options);
  }
}
