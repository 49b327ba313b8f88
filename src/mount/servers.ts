/** Which process serves a mount. */
import fs from 'node:fs';
import type { Mount } from '../fuse/mountinfo.js';
import { liveRecords, type Process, processOf } from './records.js';

/**
 * From our own records, and for root, to whom other users' records are not to be trusted, from what the kernel tells of
 * open descriptors. Undefined where neither knows: a dead mount, another user's, a kernel before 6.16. To be asked while
 * the mount stands.
 */
export function serverOf(mount: Mount): Process | undefined {
  return liveRecords().find(({ device }) => device === mount.device) ?? connectedTo(mount);
}

/** The process with a descriptor of /dev/fuse whose connection has the number of the mount's device (major 0). */
function connectedTo({ device }: Mount): Process | undefined {
  const wanted = `fuse_connection:\t${device.replace(/^0:/, '')}`;
  for (const pid of entries('/proc').filter((name) => /^[0-9]+$/.test(name))) {
    const descriptors = entries(`/proc/${pid}/fd`).filter((fd) => link(`/proc/${pid}/fd/${fd}`).endsWith('/fuse'));
    const serves = descriptors.some((fd) => text(`/proc/${pid}/fdinfo/${fd}`).split('\n').includes(wanted));
    if (serves) return processOf(Number(pid));
  }
  return undefined;
}

/** What cannot be looked at belongs to somebody else, or is gone: it holds nothing. */
function entries(directory: string): readonly string[] {
  return attempt(() => fs.readdirSync(directory)) ?? [];
}

function link(path: string): string {
  return attempt(() => fs.readlinkSync(path)) ?? '';
}

function text(path: string): string {
  return attempt(() => fs.readFileSync(path, 'utf8')) ?? '';
}

function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
