/**
 * QEMU's image locks: shared open-file-description locks on single bytes of the image file, one byte per permission
 * somebody uses and one per permission somebody does not share. Nobody takes exclusive locks; they are only tested.
 * Described in native-notes/.
 */
import fs from 'node:fs';
import { ImgfsError, systemCode } from '../lib/errors.js';
import { type Libc, libc } from '../lib/libc.js';

const USED = 100;
const UNSHARED = 200;

/** Permissions, as byte offsets from USED and UNSHARED. */
const PERMISSION = { consistentRead: 0, write: 1, resize: 3 } as const;

type Permission = (typeof PERMISSION)[keyof typeof PERMISSION];

interface Claim {
  readonly use: readonly Permission[];
  readonly unshare: readonly Permission[];
}

/** How a file may be shared with others while we read it. */
export type Sharing = 'no-writers' | 'anyone';

const CLAIMS: Readonly<Record<Sharing, Claim>> = {
  'no-writers': { use: [PERMISSION.consistentRead], unshare: [PERMISSION.write, PERMISSION.resize] },
  anyone: { use: [PERMISSION.consistentRead], unshare: [] },
};

/** The image's one writer: 100, 101, 103 and 201, 203. Readers that take no lock of their own are let in. */
const WRITER: Claim = {
  use: [PERMISSION.consistentRead, PERMISSION.write, PERMISSION.resize],
  unshare: [PERMISSION.write, PERMISSION.resize],
};

/** Host file systems without such locks answer one of these. */
const NO_LOCKS = new Set(['ENOLCK', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL']);

type LockCalls = Pick<Libc, 'lockShared' | 'unlock' | 'isLockedByOther'>;

export interface LockRequest {
  readonly fd: number;
  /** The resolved path, to find who else has it open. */
  readonly path: string;
  readonly name: string;
  readonly sharing: Sharing;
  /** Told once when nothing could be locked and why; reading goes on. */
  readonly warn: (message: string) => void;
}

/**
 * Takes a reader's locks on a file, before anything in it is believed. They end with the descriptor.
 * Lock first, then test: of two racing openers both may fail, never both succeed. Throws `locked`, naming the holder.
 */
export function lockForReading(request: LockRequest, calls: LockCalls | undefined = libc()): void {
  if (calls === undefined) {
    request.warn(`locks on ${request.name} are not checked: the FFI (koffi) cannot be loaded`);
    return;
  }
  try {
    claim(calls, request, CLAIMS[request.sharing]);
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined || !NO_LOCKS.has(code)) throw error;
    request.warn(`locks on ${request.name} are not checked: its file system has none (${code})`);
  }
}

/**
 * Takes a writer's locks on a file, before anything in it is believed. They end with the descriptor. Throws `locked`,
 * naming the holder, and `unsupported` where nothing can be locked: nobody would know that we write.
 */
export function lockForWriting(
  request: Pick<LockRequest, 'fd' | 'path' | 'name'>,
  calls: LockCalls | undefined = libc(),
): void {
  if (calls === undefined) throw notLockable(request.name, 'the FFI (koffi) cannot be loaded');
  try {
    claim(calls, request, WRITER);
  } catch (error) {
    const code = systemCode(error);
    if (code === undefined || !NO_LOCKS.has(code)) throw error;
    throw notLockable(request.name, `its file system has no locks (${code})`);
  }
}

function notLockable(name: string, why: string): ImgfsError {
  return new ImgfsError('unsupported', `${name} cannot be locked against other writers: ${why}`);
}

function claim(calls: LockCalls, request: Pick<LockRequest, 'fd' | 'path' | 'name'>, wanted: Claim): void {
  const bytes = [...wanted.use.map((bit) => USED + bit), ...wanted.unshare.map((bit) => UNSHARED + bit)];
  const taken: number[] = [];
  try {
    for (const byte of bytes) {
      if (!calls.lockShared(request.fd, byte)) throw lockedBy(request, wanted);
      taken.push(byte);
    }
    const refused = wanted.use.some((bit) => calls.isLockedByOther(request.fd, UNSHARED + bit));
    const inUse = wanted.unshare.some((bit) => calls.isLockedByOther(request.fd, USED + bit));
    if (refused || inUse) throw lockedBy(request, wanted);
  } catch (error) {
    for (const byte of taken) calls.unlock(request.fd, byte);
    throw error;
  }
}

function lockedBy(request: Pick<LockRequest, 'path' | 'name'>, wanted: Claim): ImgfsError {
  if (wanted === WRITER) {
    const who = whoHas(request.path, ANY_ACCESS).join(' and ') || 'another process';
    return new ImgfsError('locked', `${request.name} is in use by ${who}`);
  }
  const who = whoHas(request.path, OPEN_FOR_WRITING).join(' and ') || 'another process';
  return new ImgfsError('locked', `${request.name} is in use: ${who} has it open for writing`, {
    hint: 'stop that process, or read anyway with --force-share',
  });
}

/** The octal flags of a descriptor, ending in the access mode: 1 for writing, 2 for both. */
const OPEN_FOR_WRITING = /^flags:\s*[0-7]*[12]$/m;
const ANY_ACCESS = /^flags:/m;

/** `name (pid N)` of every other process that has the path open so, as far as we may look: in /proc only. */
function whoHas(path: string, how: RegExp): readonly string[] {
  const found: string[] = [];
  for (const pid of fs.readdirSync('/proc').filter((entry) => /^[0-9]+$/.test(entry))) {
    if (Number(pid) === process.pid) continue;
    try {
      const descriptors = fs.readdirSync(`/proc/${pid}/fd`);
      const own = descriptors.filter((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === path);
      if (!own.some((fd) => how.test(fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'ascii')))) continue;
      found.push(`${fs.readFileSync(`/proc/${pid}/comm`, 'utf8').trim()} (pid ${pid})`);
    } catch {
      // Gone meanwhile, or another user's: not ours to see.
    }
  }
  return found;
}

function linkOf(path: string): string | undefined {
  try {
    return fs.readlinkSync(path);
  } catch {
    return undefined;
  }
}
