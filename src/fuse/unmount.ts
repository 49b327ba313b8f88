/** Taking a mount away, from the process that serves it or from any other. */
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { libc, UMOUNT } from '../lib/libc.js';
import { unmountAsUser } from './fusermount.js';

/**
 * Unmounts what is on top of `mountpoint` (absolute): root by umount2(2), a user through the set-uid fusermount3.
 * Resolves when the kernel has taken it out of the tree; the server may still be at work for a moment, with `lazy` for
 * as long as files are open. Throws `busy` while it is in use (not when lazy), `missing` where nothing is mounted.
 */
export async function unmount(mountpoint: string, options: { readonly lazy: boolean }): Promise<void> {
  const native = process.geteuid?.() === 0 ? libc() : undefined;
  if (native !== undefined) {
    try {
      native.umount(mountpoint, UMOUNT.NOFOLLOW + (options.lazy ? UMOUNT.DETACH : 0));
    } catch (error) {
      throw rootError(mountpoint, error);
    }
    return;
  }
  const outcome = await unmountAsUser(mountpoint, options);
  if (!outcome.ok) throw userError(mountpoint, outcome.text);
}

function rootError(mountpoint: string, error: unknown): unknown {
  if (systemCode(error) === 'EBUSY') return busy(mountpoint);
  if (systemCode(error) === 'EINVAL') return notMounted(mountpoint);
  return hostError(`cannot unmount ${mountpoint}`, error);
}

function userError(mountpoint: string, text: string): ImgfsError {
  if (text.includes('busy')) return busy(mountpoint);
  if (text.includes('not found in')) return notMounted(mountpoint);
  return new ImgfsError('permission', `cannot unmount ${mountpoint}: ${text === '' ? 'fusermount3 failed' : text}`);
}

function busy(mountpoint: string): ImgfsError {
  return new ImgfsError('busy', `cannot unmount ${mountpoint}: it is in use`, {
    hint: `see who uses it with "fuser -vm ${mountpoint}", or unmount lazily`,
  });
}

function notMounted(mountpoint: string): ImgfsError {
  return new ImgfsError('missing', `cannot unmount ${mountpoint}: nothing is mounted there`);
}
