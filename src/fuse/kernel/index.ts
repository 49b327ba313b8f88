/** The adapter that speaks FUSE on /dev/fuse itself, from worker threads. Linux only. */
import { closeSync, writeFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { errorLine } from '../../lib/errors.js';
import { libc } from '../../lib/libc.js';
import type { Adapter, MountRequest, Served, Session } from '../adapter.js';
import { unmount } from '../unmount.js';
import { connect, shakeHands } from './connection.js';
import { Crew } from './crew.js';
import { FrontDesk } from './frontdesk.js';
import { MAX_READ } from './layout.js';
import { findMount, KernelSession } from './session.js';

const READAHEAD_KIB = '1024';

export const kernel: Adapter = {
  name: 'kernel',
  can: {
    seeksHoles: true,
    punchesHoles: true,
    requestBytes: MAX_READ,
    writebackCache: true,
    fileMountpoint: true,
    threads: true,
  },
  unavailable,
  attach,
};

function unavailable(): string | undefined {
  if (process.platform !== 'linux') return `/dev/fuse is spoken on Linux only, not on ${process.platform}`;
  if (endianness() !== 'LE') return 'big-endian machines are not supported';
  if (libc() === undefined) return 'the FFI (koffi) cannot be loaded';
  return undefined;
}

/** Workers open before the mount exists: what fails in them has then mounted nothing, and nobody waits for them. */
async function attach(request: MountRequest, served: Served): Promise<Session> {
  let desk: FrontDesk | undefined;
  const { log, trace } = request;
  const crew = await Crew.assemble({ plan: served.workers, trace, log, take: (bytes) => desk?.take(bytes) });
  let fd: number;
  try {
    fd = await connect(request);
  } catch (error) {
    await crew.dismiss();
    throw error;
  }
  try {
    shakeHands(fd, request);
    desk = new FrontDesk(served, { fd, readOnly: request.readOnly, log, trace });
    await crew.begin(fd);
  } catch (error) {
    await giveUp(request.mountpoint, fd, crew).catch((why) => log(errorLine(why)));
    throw error;
  }
  const device = deviceOf(request.mountpoint);
  if (device !== undefined) raiseReadahead(device);
  return new KernelSession(request.mountpoint, device, request.writebackCache, fd, crew);
}

/**
 * Takes the mount away again. Workers that have begun end with it, the others by being told. The descriptor stays
 * open until all have: its number, used again, would have them read from something else.
 */
async function giveUp(mountpoint: string, fd: number, crew: Crew): Promise<void> {
  await unmount(mountpoint, { lazy: true });
  void crew.dismiss().then(() => closeSync(fd));
}

function deviceOf(mountpoint: string): string | undefined {
  try {
    return findMount(mountpoint)?.device;
  } catch {
    return undefined;
  }
}

/** INIT can only lower what the kernel offers (128 KiB); root may raise it here. Best effort: slower without. */
function raiseReadahead(device: string): void {
  if (process.geteuid?.() !== 0) return;
  try {
    writeFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, READAHEAD_KIB);
  } catch {
    // A read-only /sys, as in most containers.
  }
}
