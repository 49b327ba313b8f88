import { constants } from 'node:os';
import { ImgfsError, type Reason } from '../lib/errors.js';

const { EACCES, EBUSY, EEXIST, EFBIG, EINVAL, EIO, ENOENT, ENOSPC, EOPNOTSUPP, EPERM, EROFS } = constants.errno;

/** What a program that uses the mount is told; complete by type, so a new reason cannot be forgotten. */
const ERRNOS: Readonly<Record<Reason, number>> = {
  corrupt: EIO,
  truncated: EIO,
  io: EIO,
  system: EIO,
  unsupported: EOPNOTSUPP,
  limit: EFBIG,
  refused: EPERM,
  permission: EACCES,
  passphrase: EACCES,
  locked: EBUSY,
  busy: EBUSY,
  missing: ENOENT,
  exists: EEXIST,
  'read-only': EROFS,
  'no-space': ENOSPC,
  usage: EINVAL,
};

/** The errno (positive, of this platform) that stands for `error`; anything but an ImgfsError is a bug: EIO. */
export function errnoOf(error: unknown): number {
  return error instanceof ImgfsError ? ERRNOS[error.reason] : EIO;
}
