import { accessSync, closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs';
import { ImgfsError } from '../../lib/errors.js';
import type { MountRequest } from '../adapter.js';
import { DEVICE, deviceError } from '../device-error.js';

const CONFIGURATION = '/etc/fuse.conf';

/** Throws where no mount can succeed: libfuse opens the device itself, also where fusermount does the rest. */
export function requireDevice(): void {
  try {
    closeSync(openSync(DEVICE, 'r+'));
  } catch (error) {
    throw deviceError(error);
  }
}

/**
 * Why a mount most likely failed. libfuse tells its caller nothing but that it did (and standard error only sometimes),
 * so the known causes are looked at one by one, after the fact.
 */
export function diagnose(request: Pick<MountRequest, 'mountpoint' | 'allowOther'>): ImgfsError {
  const what = `cannot mount on ${request.mountpoint}`;
  if (process.geteuid?.() === 0) {
    return new ImgfsError('system', `${what}: the kernel refused it`, {
      hint: 'in a container, mounting needs the capability SYS_ADMIN (--cap-add SYS_ADMIN)',
    });
  }
  if (!onPath('fusermount')) {
    return new ImgfsError('system', `${what}: libfuse did not find fusermount`, {
      hint: 'install fuse3 and, where it has fusermount3 only, link fusermount to it; or use --adapter kernel',
    });
  }
  if (request.allowOther && !allowsOthers()) {
    return new ImgfsError('permission', `${what}: allow_other is not allowed to users here`, {
      hint: `add user_allow_other to ${CONFIGURATION}, or mount without allow_other`,
    });
  }
  if (!writable(request.mountpoint)) {
    return new ImgfsError('permission', `${what}: you may not write to it`, { hint: 'use a mountpoint of your own' });
  }
  return new ImgfsError('system', `${what}: fusermount refused it`, {
    hint: 'its own message, if any, is above; in a container it needs the capability SYS_ADMIN',
  });
}

/** libfuse calls /bin/fusermount or, built into the package, whichever comes first on PATH. */
function onPath(program: string): boolean {
  return [...(process.env.PATH ?? '').split(':'), '/bin'].some((directory) => existsSync(`${directory}/${program}`));
}

function allowsOthers(): boolean {
  try {
    return /^\s*user_allow_other\s*(#.*)?$/m.test(readFileSync(CONFIGURATION, 'utf8'));
  } catch {
    return false;
  }
}

function writable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
