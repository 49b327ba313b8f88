import { readdirSync, readlinkSync } from 'node:fs';

const OWN = '/proc/self/fd';

/**
 * The numbers of our descriptors that are open on /dev/fuse. libfuse keeps exactly one per mount, and closes it when
 * the kernel has told every thread that serves it that the mount is over.
 */
export function fuseDevices(): Set<string> {
  return new Set(readdirSync(OWN).filter(isFuseDevice));
}

/** Whether descriptor `number` is open on /dev/fuse now. */
export function isFuseDevice(number: string): boolean {
  try {
    return readlinkSync(`${OWN}/${number}`).endsWith('/fuse');
  } catch {
    // Closed meanwhile; the one readdir itself had is always among these.
    return false;
  }
}
