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

/** Host file systems without such locks answer one of these. */
const NO_LOCKS = new Set(['ENOLCK', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL']);

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
export function lockForReading(request: LockRequest): void {
  const calls = libc();
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

function claim(calls: Libc, request: LockRequest, wanted: Claim): void {
  const bytes = [...wanted.use.map((bit) => USED + bit), ...wanted.unshare.map((bit) => UNSHARED + bit)];
  const taken: number[] = [];
  try {
    for (const byte of bytes) {
      if (!calls.lockShared(request.fd, byte)) throw lockedBy(request);
      taken.push(byte);
    }
    const refused = wanted.use.some((bit) => calls.isLockedByOther(request.fd, UNSHARED + bit));
    const inUse = wanted.unshare.some((bit) => calls.isLockedByOther(request.fd, USED + bit));
    if (refused || inUse) throw lockedBy(request);
  } catch (error) {
    for (const byte of taken) calls.unlock(request.fd, byte);
    throw error;
  }
}

function lockedBy(request: LockRequest): ImgfsError {
  const holders = whoHas(request.path);
  const who = holders.length === 0 ? 'another process' : holders.join(' and ');
  return new ImgfsError('locked', `${request.name} is in use: ${who} has it open for writing`, {
    hint: 'stop that process, or read anyway with --force-share',
  });
}

/** `name (pid N)` of every other process that has the path open, as far as we may look. Touches no path but /proc. */
function whoHas(path: string): readonly string[] {
  const found: string[] = [];
  for (const pid of fs.readdirSync('/proc').filter((entry) => /^[0-9]+$/.test(entry))) {
    if (Number(pid) === process.pid) continue;
    try {
      const descriptors = fs.readdirSync(`/proc/${pid}/fd`);
      if (!descriptors.some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === path)) continue;
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
