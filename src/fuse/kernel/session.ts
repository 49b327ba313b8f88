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
    private readonly writebackCache: boolean,
    fd: number,
    crew: Crew,
  ) {
    this.ended = this.serve(crew, fd);
    // It may reject before anyone has had the occasion to look.
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
    await unmount(this.mountpoint, { ...options, elsewhere: this.writebackCache });
  }

  /**
   * The regular end takes the mount out of the table first. One that is still there when nobody serves it is dead:
   * its last descriptor is closed, so that nobody waits for it, and the mountpoint is given back.
   */
  private async serve(crew: Crew, fd: number): Promise<void> {
    let broke: unknown;
    try {
      await crew.ended;
    } catch (error) {
      broke = error;
    }
    // While somebody reads from it its number must not become another file's.
    if (crew.gone) closeSync(fd);
    const dead = this.device !== undefined && findMount(this.mountpoint, this.device) !== undefined;
    if (dead) await this.unmount({ lazy: true });
    if (broke !== undefined) throw broke;
    if (dead) throw new ImgfsError('io', `the mount on ${this.mountpoint} was aborted`);
  }
}
