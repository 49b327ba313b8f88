import type { WriteAccess } from '../image/open.js';
import { CACHES, parseCache } from '../mount/options.js';

/**
 * What a caching mode (`-t`) means for a verb that makes everything durable at its end: `writethrough` then is nothing
 * more than `writeback`. qemu-img also takes "off" for `none`.
 */
export function cacheAccess(mode: string): Pick<WriteAccess, 'direct' | 'unsafe'> {
  const { direct, unsafe } = CACHES[parseCache(mode === 'off' ? 'none' : mode)];
  return { direct, unsafe };
}
