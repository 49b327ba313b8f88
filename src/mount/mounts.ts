/** Our mounts in the kernel's table: asking it never touches a mounted file system. */
import { type Mount, mounts } from '../fuse/mountinfo.js';

/** The type every mount of ours has in the table. */
const MOUNT_TYPE = 'fuse.imgfs';

/** The imgfs mounts this process can see, oldest first. */
export function ourMounts(): readonly Mount[] {
  return mounts().filter((mount) => mount.type === MOUNT_TYPE);
}

/** The imgfs mount at exactly that path, unless something else is mounted over it. */
export function ourMountAt(path: string): Mount | undefined {
  const top = mounts().findLast((mount) => mount.mountpoint === path);
  return top?.type === MOUNT_TYPE ? top : undefined;
}
