import fs from 'node:fs';
import { basename, dirname, join, sep } from 'node:path';
import type { NodeKind } from '../fuse/adapter.js';
import { unmount } from '../fuse/unmount.js';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { ourMountAt } from './mounts.js';

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
 * Checks where to mount, and clears dead mounts of ours (their process was killed) that are still there. Throws
 * `missing`, `permission`, `busy` for a live mount, `refused` for a place that would hide files.
 */
export async function prepareMountpoint(name: string, rules: MountpointRules): Promise<Mountpoint> {
  const path = resolveMountpoint(name);
  while (isDeadMount(path)) await unmount(path, { lazy: true });
  if (ourMountAt(path) !== undefined) {
    throw new ImgfsError('busy', `${name} has an imgfs mount already`, { hint: `end it with imgfs umount ${name}` });
  }
  const kind = kindOf(name, path);
  const hidden = rules.files.find((file) => file === path || file.startsWith(path === sep ? sep : path + sep));
  if (hidden !== undefined) {
    throw new ImgfsError('refused', `a mount at ${name} would hide ${hidden}`, { hint: 'choose another mountpoint' });
  }
  if (kind === 'directory' && !rules.allowNonEmpty && !isEmpty(name, path)) {
    throw new ImgfsError('refused', `${name} is not empty`, { hint: 'choose an empty directory or add -o nonempty' });
  }
  return { path, kind };
}

/**
 * The path with links resolved. A mount of ours that is there already is found by its name alone and not touched: its
 * process may be dead, stopped, or another user's.
 */
export function resolveMountpoint(name: string): string {
  try {
    const last = basename(name);
    if (last !== '' && last !== '.' && last !== '..') {
      const path = join(fs.realpathSync(dirname(name)), last);
      if (ourMountAt(path) !== undefined) return path;
    }
    return fs.realpathSync(name);
  } catch (error) {
    throw cannotUse(name, error);
  }
}

/** Whether a mount of ours is there whose process is gone. Waits where the process is stopped. */
export function isDeadMount(path: string): boolean {
  if (ourMountAt(path) === undefined) return false;
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

function isEmpty(name: string, path: string): boolean {
  try {
    return fs.readdirSync(path).length === 0;
  } catch (error) {
    throw cannotUse(name, error);
  }
}

function cannotUse(name: string, error: unknown): unknown {
  return hostError(`cannot use the mountpoint ${name}`, error);
}
