import { ImgfsError } from '../lib/errors.js';
import { mountpointOf } from '../mount/served.js';

/** Runs `open`; where the image is locked because we have mounted it, the error says how to end that. */
export function hintWhereMounted<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw withMountpoint(path, error);
  }
}

/** The error that says how to end that, where one says that the image is locked; any other as it is. */
export function withMountpoint(path: string, error: unknown): unknown {
  if (!(error instanceof ImgfsError) || error.reason !== 'locked') return error;
  const mountpoint = mountpointOf(path);
  if (mountpoint === undefined) return error;
  return new ImgfsError('locked', `${error.message}, mounted on ${mountpoint}`, {
    hint: `end that with imgfs umount ${mountpoint}`,
    cause: error,
  });
}

/** Throws `busy` for an image that is mounted and shall be replaced, also where the mount would not notice. */
export function assertNotMounted(path: string): void {
  const mountpoint = mountpointOf(path);
  if (mountpoint === undefined) return;
  throw new ImgfsError('busy', `${path} is mounted on ${mountpoint}`, {
    hint: `end that with imgfs umount ${mountpoint}`,
  });
}
