/**
 * What the adapter benchmark serves: `memory.raw`, 1 GiB of zeros from memory (the cost of FUSE and nothing else), and
 * `file.raw`, the file IMGFS_BENCH_FILE by one pread(2) per request.
 */
import { openSync, readSync } from 'node:fs';
import { type Attributes, type Ino, ROOT, type Served } from '../src/fuse/adapter.js';
import { readOnlyData, readOnlyNames } from '../src/fuse/read-only.js';

const SIZE = 2 ** 30;
const FILES = new Map<string, Ino>([
  ['memory.raw', 2],
  ['file.raw', 3],
]);

function attributes(ino: Ino): Attributes {
  const kind = ino === ROOT ? 'directory' : 'file';
  const mode = kind === 'directory' ? 0o755 : 0o644;
  const size = kind === 'directory' ? 0 : SIZE;
  const owner = { uid: 0, gid: 0, links: 1 };
  const time = { mtimeSeconds: 0, mtimeNanoseconds: 0, validMs: 3_600_000 };
  return { ino, kind, mode, size, allocated: size, blockSize: 65536, ...owner, ...time };
}

export function fakeServed(): Served {
  return {
    names: {
      lookup: (_parent, name) => FILES.get(name) ?? 2,
      attributes,
      entries: () => [...FILES].map(([name, ino]) => ({ ino, name, kind: 'file' })),
      open: () => ({ keepCache: false, directIo: false }),
      release() {},
      ...readOnlyNames,
      space: () => ({ blockSize: 65536, total: SIZE, free: 0, files: 2 }),
    },
    data: openData(),
    workers: { module: import.meta.url, job: undefined, count: Number(process.env.IMGFS_BENCH_WORKERS ?? 4) },
  };
}

export function openData(): Served['data'] {
  const path = process.env.IMGFS_BENCH_FILE;
  const fd = path === undefined ? -1 : openSync(path, 'r');
  return {
    serves: () => true,
    read(ino, into, at) {
      if (ino === 3 && fd >= 0) return readSync(fd, into, 0, into.length, at);
      return Math.max(0, Math.min(into.length, SIZE - at));
    },
    seek: () => undefined,
    ...readOnlyData,
  };
}
