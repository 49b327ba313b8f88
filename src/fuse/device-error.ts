/** Why /dev/fuse cannot be opened, and what to do: the same words from every adapter. */
import { statSync } from 'node:fs';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';

export const DEVICE = '/dev/fuse';
export const IN_A_CONTAINER = `in a container start it with --device ${DEVICE} --cap-add SYS_ADMIN`;

/** The ImgfsError for what open(2) answered. */
export function deviceError(error: unknown): unknown {
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENODEV':
    case 'ENXIO':
      return new ImgfsError('system', `cannot mount: ${DEVICE} is missing`, {
        hint: `in a container start it with --device ${DEVICE}; on a host: modprobe fuse`,
        cause: error,
      });
    case 'EACCES':
      return new ImgfsError('permission', `cannot mount: ${DEVICE} is mode ${deviceMode()}`, {
        hint: `as root run chmod 0666 ${DEVICE}`,
        cause: error,
      });
    case 'EPERM':
      return new ImgfsError('permission', `cannot mount: opening ${DEVICE} is not permitted`, {
        hint: IN_A_CONTAINER,
        cause: error,
      });
    default:
      return hostError(`cannot mount: ${DEVICE}`, error);
  }
}

function deviceMode(): string {
  return `0${(statSync(DEVICE).mode % 0o1000).toString(8).padStart(3, '0')}`;
}
