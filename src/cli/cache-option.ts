import type { Command } from 'commander';
import type { WriteAccess } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { CACHES, parseCache } from '../mount/options.js';

/**
 * What a caching mode (`-t`) means for a verb that makes everything durable at its end: `writethrough` then is nothing
 * more than `writeback`. qemu-img also takes "off" for `none`.
 */
export function cacheAccess(mode: string): Pick<WriteAccess, 'direct' | 'unsafe'> {
  const { direct, unsafe } = CACHES[parseCache(mode === 'off' ? 'none' : mode)];
  return { direct, unsafe };
}

/** A mode as it was given. Throws `usage` where there is no such. */
export function cacheMode(mode: string): string {
  cacheAccess(mode);
  return mode;
}

/**
 * qemu-img's `-T`: how the host caches what is read. It changes no answer, so it is checked and then left alone. As for
 * qemu-img, another mode is a failure to open.
 */
export function declareSourceCache(command: Command): void {
  command.option('-T, --source-cache <mode>', "qemu-img's cache mode for reading; without effect", (mode) => {
    if (mode === 'off' || Object.hasOwn(CACHES, mode)) return mode;
    throw new ImgfsError('unsupported', `unknown cache mode "${mode}"`, {
      hint: `there are ${Object.keys(CACHES).join(', ')}`,
    });
  });
}
