import type { Attributes, Space } from '../adapter.js';
import type { Stat, StatVfs } from './operations.js';

const TYPE_BITS = { directory: 0o040000, file: 0o100000 } as const;
const STAT_BLOCK = 512;
const U32_LIMIT = 2 ** 32;
const NAME_MAX = 255;

/** What stat(2) shows, in the package's form: below the millisecond and before 1970 times are lost. */
export function statOf(attributes: Attributes): Stat {
  const time = Math.max(0, attributes.mtimeSeconds * 1000 + Math.floor(attributes.mtimeNanoseconds / 1e6));
  return {
    mode: TYPE_BITS[attributes.kind] + attributes.mode,
    uid: attributes.uid,
    gid: attributes.gid,
    size: attributes.size,
    nlink: attributes.links,
    ino: attributes.ino,
    blksize: attributes.blockSize,
    blocks: Math.ceil(attributes.allocated / STAT_BLOCK),
    atime: time,
    mtime: time,
    ctime: time,
  };
}

/**
 * What statvfs(3) shows. The counts are 32-bit in the package, so the unit they count in grows until they fit;
 * `bsize`, which loop devices look at, stays as it was.
 */
export function statVfsOf(space: Space): StatVfs {
  let unit = space.blockSize;
  while (space.total / unit >= U32_LIMIT) unit *= 2;
  const free = Math.floor(space.free / unit);
  return {
    bsize: space.blockSize,
    frsize: unit,
    blocks: Math.floor(space.total / unit),
    bfree: free,
    bavail: free,
    files: space.files,
    ffree: 0,
    favail: 0,
    namemax: NAME_MAX,
  };
}
