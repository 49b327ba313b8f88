import fs from 'node:fs';
import { basename, dirname, join, sep } from 'node:path';
import type { NodeKind } from '../fuse/adapter.js';
import { unmount } from '../fuse/unmount.js';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { MOUNT_TYPE, mountAt } from './mounts.js';

export interface Mountpoint {
  /** Absolute, links resolved. */
  readonly path: string;
  readonly kind: NodeKind;
}

export interface MountpointRules {
  /** Resolved paths of every file the mount will use: none may be hidden by it, or be it. */
  readonly files: readonly string[];
  readonly allowNonEmpty: boolean;
}

/**
 * Checks where to mount, and clears a dead mount of ours (its process was killed) that is still there. Throws
 * `missing`, `permission`, `busy` for a live mount, `refused` for a place that would hide files.
 */
export async function prepareMountpoint(name: string, rules: MountpointRules): Promise<Mountpoint> {
  const path = resolveMountpoint(name);
  const dead = isDeadMount(path);
  if (dead) await unmount(path, { lazy: true });
  else if (mountAt(path)?.type === MOUNT_TYPE) {
    throw new ImgfsError('busy', `${name} has an imgfs mount already`, { hint: `end it with imgfs umount ${name}` });
  }
  const kind = kindOf(name, path);
  const hidden = rules.files.find((file) => file === path || file.startsWith(path + sep));
  if (hidden !== undefined) {
    throw new ImgfsError('refused', `a mount at ${name} would hide ${hidden}`, { hint: 'choose another mountpoint' });
  }
  if (kind === 'directory' && !rules.allowNonEmpty && fs.readdirSync(path).length > 0) {
    throw new ImgfsError('refused', `${name} is not empty`, { hint: 'choose an empty directory or add -o nonempty' });
  }
  return { path, kind };
}

/** The path with links resolved; a dead mount does not answer, so its parent is resolved instead. */
export function resolveMountpoint(name: string): string {
  try {
    return fs.realpathSync(name);
  } catch (error) {
    if (systemCode(error) !== 'ENOTCONN') throw hostError(`cannot use the mountpoint ${name}`, error);
    return join(fs.realpathSync(dirname(name)), basename(name));
  }
}

/** Whether a mount of ours is there whose process is gone. */
export function isDeadMount(path: string): boolean {
  if (mountAt(path)?.type !== MOUNT_TYPE) return false;
  try {
    fs.statSync(path);
    return false;
  } catch (error) {
    return systemCode(error) === 'ENOTCONN';
  }
}

function kindOf(name: string, path: string): NodeKind {
  const status = fs.statSync(path);
  if (status.isDirectory()) return 'directory';
  if (status.isFile()) return 'file';
  throw new ImgfsError('refused', `the mountpoint ${name} is neither a directory nor a regular file`);
}
