import type { Health } from '../../../image/health.js';
import type { Limits } from '../../../image/limits.js';
import { rewrite } from '../../../image/rewrite.js';
import { ImgfsError } from '../../../lib/errors.js';
import { readTable, type Storage } from '../../../storage/storage.js';
import { readBitmaps } from '../bitmaps/directory.js';
import type { Header } from '../header.js';
import { BITMAP_FLAGS_AT, inUseFlags } from '../layout.js';

/**
 * Marks every bitmap as in use, which is how the format says that it no longer tells what changed: whoever reads it
 * next must not believe it, and whoever made it can remove it. So its clusters stay accounted for, where clearing the
 * feature bit would make leaks of them. Durable on return. Says whether that could be done: not where there are none,
 * or where their directory is damaged.
 */
export function markBitmapsStale(storage: Storage, header: Header, limits: Limits, health: Health): boolean {
  const claim = header.extensions.bitmaps;
  if (claim === undefined || !header.bitmapsValid) return false;
  const old = Buffer.alloc(claim.bytes);
  try {
    const bitmaps = readBitmaps(storage, header, limits);
    readTable(storage, old, claim.at, 'bitmap directory');
    const next = Buffer.from(old);
    for (const { entryAt } of bitmaps) {
      const at = entryAt + BITMAP_FLAGS_AT;
      next.writeUInt32BE(inUseFlags(next.readUInt32BE(at)), at);
    }
    if (next.equals(old)) return true;
    rewrite(storage, { at: claim.at, bytes: next, old }, health);
  } catch (error) {
    const damaged = error instanceof ImgfsError && ['corrupt', 'truncated', 'limit'].includes(error.reason);
    if (damaged && health.sound) return false;
    throw error;
  }
  health.barrier(storage);
  return true;
}
