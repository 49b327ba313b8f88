/** From a mountpoint to a descriptor of /dev/fuse on which requests arrive. */
import { accessSync, closeSync, constants, fstatSync, openSync, readlinkSync } from 'node:fs';
import { hostError, ImgfsError, systemCode } from '../../lib/errors.js';
import { type Libc, libc, MOUNT, OPEN } from '../../lib/libc.js';
import type { MountRequest } from '../adapter.js';
import { DEVICE, deviceError, IN_A_CONTAINER } from '../device-error.js';
import { mountAsUser } from '../fusermount.js';
import { receive, send } from './device.js';
import {
  bodyFits,
  initOffer,
  MAX_READ,
  opcodeOf,
  putHeader,
  putInit,
  REPLY_HEADER,
  REQUEST_BYTES,
  REQUEST_HEADER,
} from './layout.js';
import { negotiate } from './negotiate.js';
import { OPCODE } from './opcodes.js';

const TYPE = 'fuse.imgfs';
/** mount(2) takes a page, terminator included. */
const SOURCE_BYTES = 4095;
const ROOT_MODE = { directory: '40000', file: '100000' } as const;

/**
 * Mounts and returns the descriptor, which the caller owns. INIT is waiting on it, and until it is answered every
 * process that looks at the mountpoint waits too. Throws ImgfsError; then nothing is mounted.
 */
export async function connect(request: MountRequest): Promise<number> {
  const native = libc();
  if (native === undefined) throw new ImgfsError('system', 'cannot mount: the FFI (koffi) cannot be loaded');
  if (process.geteuid?.() === 0) return mountAsRoot(native, request);
  checkDevice();
  return await mountAsUser(native, { ...request, source: fitted(request.source), maxRead: MAX_READ });
}

/** fusermount3 opens the device with its user's rights, so what they lack can be said before it runs. */
function checkDevice(): void {
  try {
    accessSync(DEVICE, constants.R_OK + constants.W_OK);
  } catch (error) {
    throw deviceError(error);
  }
}

function openDevice(): number {
  try {
    return openSync(DEVICE, 'r+');
  } catch (error) {
    throw deviceError(error);
  }
}

/** A device descriptor serves one attempt only: the kernel keeps a failed mount's state in it. */
function mountAsRoot(native: Libc, request: MountRequest): number {
  const fd = openDevice();
  try {
    const target = openMountpoint(native, request);
    try {
      const flags = MOUNT.NOSUID + MOUNT.NODEV + (request.readOnly ? MOUNT.RDONLY : 0);
      native.mount(fitted(request.source), `/proc/self/fd/${target}`, TYPE, flags, mountData(fd, request));
    } catch (error) {
      throw mountError(request.mountpoint, error);
    } finally {
      closeSync(target);
    }
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The source is for people to read: of one too long for the kernel (many images) the end is shown. */
function fitted(source: string): string {
  if (Buffer.byteLength(source) <= SOURCE_BYTES) return source;
  const characters = [...source].slice(-SOURCE_BYTES);
  while (Buffer.byteLength(`...${characters.join('')}`) > SOURCE_BYTES) characters.shift();
  return `...${characters.join('')}`;
}

function mountData(fd: number, request: MountRequest): string {
  const data = [
    `fd=${fd}`,
    `rootmode=${ROOT_MODE[request.mountpointKind]}`,
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    'default_permissions',
    `max_read=${MAX_READ}`,
  ];
  if (request.allowOther) data.push('allow_other');
  return data.join(',');
}

/**
 * The mountpoint as it was resolved and checked by the caller: held open by the time of mount(2), so that a link put
 * in its place meanwhile leads nowhere.
 */
function openMountpoint(native: Libc, request: MountRequest): number {
  const { mountpoint, mountpointKind } = request;
  let target: number;
  try {
    target = native.open(mountpoint, OPEN.PATH + constants.O_NOFOLLOW);
  } catch (error) {
    throw hostError(`cannot mount on ${mountpoint}`, error);
  }
  const found = fstatSync(target);
  const kind = found.isDirectory() ? 'directory' : found.isFile() ? 'file' : 'other';
  if (kind === mountpointKind && readlinkSync(`/proc/self/fd/${target}`) === mountpoint) return target;
  closeSync(target);
  throw new ImgfsError('refused', `cannot mount on ${mountpoint}: it was replaced while being mounted on`);
}

function mountError(mountpoint: string, error: unknown): unknown {
  switch (systemCode(error)) {
    case 'EPERM':
      return new ImgfsError('permission', 'cannot mount: mount(2) is not permitted', {
        hint: IN_A_CONTAINER,
        cause: error,
      });
    case 'ENODEV':
      return new ImgfsError('system', 'cannot mount: the kernel has no FUSE', { hint: 'modprobe fuse', cause: error });
    default:
      return hostError(`cannot mount on ${mountpoint}`, error);
  }
}

/**
 * Answers INIT, which the kernel has queued by the time the mount exists: reading it does not wait. Throws ImgfsError
 * where the kernel is too old or the mount is gone already.
 */
export function shakeHands(fd: number, wishes: Pick<MountRequest, 'writebackCache'>): void {
  const buffer = Buffer.alloc(REQUEST_BYTES);
  const reply = Buffer.alloc(REPLY_HEADER + REQUEST_HEADER + REQUEST_HEADER);
  for (;;) {
    const length = receive(fd, buffer);
    const request = buffer.subarray(0, Math.max(length, 0));
    if (length < REQUEST_HEADER || opcodeOf(request) !== OPCODE.INIT || !bodyFits(OPCODE.INIT, length)) {
      throw new ImgfsError('system', 'cannot mount: the kernel broke off the FUSE connection');
    }
    const offer = initOffer(request);
    const answer = negotiate(offer, wishes);
    const total = REPLY_HEADER + putInit(reply, answer);
    putHeader(reply, request, total, 0);
    send(fd, reply, total);
    if (offer.major === answer.major) return;
  }
}
