/**
 * A tree of difficult files, for mounts of the kernel adapter:
 *
 *   holes.raw   64 MiB + 700 bytes with data in two places
 *   main.raw    only the main thread has it
 *   slow.raw    every read takes READ_MS
 *   deadly.raw  reading it ends the data worker's thread
 *   old.raw     from before 1970
 *   many/       a thousand files, one named in UTF-8
 */
import { threadId } from 'node:worker_threads';
import { type Attributes, type Ino, ROOT, type Served } from '../../../src/fuse/adapter.js';
import { readOnlyData, readOnlyNames } from '../../../src/fuse/read-only.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { fillPattern } from '../../support/served.js';

export const HOLES_SIZE = 64 * 2 ** 20 + 700;
export const DATA: readonly (readonly [start: number, end: number])[] = [
  [4 * 2 ** 20, 4 * 2 ** 20 + 65536],
  [40 * 2 ** 20, 40 * 2 ** 20 + 131072],
];
export const ALLOCATED = DATA.reduce((sum, [start, end]) => sum + end - start, 0);
export const READ_MS = 500;
export const OLD_SECONDS = -1_000_000;
export const MANY = 1000;
export const UTF8_NAME = 'gr\u00f6\u00dfe-\u{1f600}.raw';

const FILE_SIZE = 2 ** 20;
const INODES = { holes: 2, main: 3, slow: 4, deadly: 5, old: 6, many: 7, firstOfMany: 100 } as const;

const TOP = new Map<string, Ino>([
  ['holes.raw', INODES.holes],
  ['main.raw', INODES.main],
  ['slow.raw', INODES.slow],
  ['deadly.raw', INODES.deadly],
  ['old.raw', INODES.old],
  ['many', INODES.many],
]);
const BELOW = new Map<string, Ino>(
  Array.from({ length: MANY }, (_, index) => [
    index === 500 ? UTF8_NAME : `file-${String(index).padStart(60, '0')}.raw`,
    INODES.firstOfMany + index,
  ]),
);

const isDirectory = (ino: Ino): boolean => ino === ROOT || ino === INODES.many;
const sizeOf = (ino: Ino): number => (isDirectory(ino) ? 0 : ino === INODES.holes ? HOLES_SIZE : FILE_SIZE);

function children(ino: Ino): ReadonlyMap<string, Ino> {
  if (ino === ROOT) return TOP;
  return ino === INODES.many ? BELOW : new Map();
}

function attributes(ino: Ino): Attributes {
  return {
    ino,
    kind: isDirectory(ino) ? 'directory' : 'file',
    mode: isDirectory(ino) ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    links: 1,
    size: sizeOf(ino),
    allocated: ino === INODES.holes ? ALLOCATED : sizeOf(ino),
    blockSize: 4096,
    mtimeSeconds: ino === INODES.old ? OLD_SECONDS : 1,
    mtimeNanoseconds: 0,
    validMs: 60_000,
  };
}

/** The bytes of holes.raw are the pattern where there is data. */
export function fillHoles(into: Uint8Array, at: number): void {
  into.fill(0);
  for (const [start, end] of DATA) {
    const from = Math.max(start, at);
    const to = Math.min(end, at + into.length);
    if (from < to) fillPattern(into.subarray(from - at, to - at), from);
  }
}

function read(ino: Ino, into: Uint8Array, at: number): number {
  const part = into.subarray(0, Math.max(0, Math.min(into.length, sizeOf(ino) - at)));
  if (ino === INODES.deadly) {
    if (threadId === 0) throw new ImgfsError('io', 'the main thread does not read this');
    process.exit(3);
  }
  if (ino === INODES.slow) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, READ_MS);
  if (ino === INODES.holes) fillHoles(part, at);
  else fillPattern(part, at);
  return part.length;
}

function seek(ino: Ino, at: number, want: 'data' | 'hole'): number | undefined {
  const size = sizeOf(ino);
  if (at >= size) return undefined;
  const ranges = ino === INODES.holes ? DATA : [[0, size] as const];
  const range = ranges.find(([, end]) => at < end);
  if (want === 'data') return range === undefined ? undefined : Math.max(at, range[0]);
  return range === undefined || at < range[0] ? at : range[1];
}

export function fakeServed(): Served {
  return {
    names: {
      lookup(parent, name) {
        const found = children(parent).get(name);
        if (found === undefined) throw new ImgfsError('missing', `no ${name}`);
        return found;
      },
      attributes,
      entries: (directory) =>
        [...children(directory)].map(([name, ino]) => ({ ino, name, kind: isDirectory(ino) ? 'directory' : 'file' })),
      open: () => ({ keepCache: false, directIo: false }),
      release() {},
      ...readOnlyNames,
      space: () => ({ blockSize: 4096, total: 2 ** 30, free: 0, files: MANY }),
    },
    data: { serves: () => true, read, seek, ...readOnlyData },
    workers: { module: import.meta.url, job: {}, count: 4 },
  };
}

/** What a data worker opens; a job that asks for it fails. */
export function openData(): Served['data'] {
  return { serves: (ino) => ino !== INODES.main, read, seek, ...readOnlyData };
}
