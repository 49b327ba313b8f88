/**
 * A small tree for adapters to serve without any image:
 *
 *   big.raw            6 GiB + 12,345 bytes of a pattern that tells where each byte is, a quarter of it allocated
 *   small.raw          `hello\n`
 *   broken.raw         every read is `corrupt`
 *   bug.raw            every read throws something that is no ImgfsError
 *   folder/inside.raw  4 KiB of the pattern
 *
 * As a file mountpoint the top is big.raw itself.
 */
import { type Attributes, type Ino, type NodeKind, ROOT, type Served } from '../../src/fuse/adapter.js';
import { readOnlyData, readOnlyNames } from '../../src/fuse/read-only.js';
import { corrupt, ImgfsError } from '../../src/lib/errors.js';

export const BIG_SIZE = 6 * 2 ** 30 + 12_345;
export const BIG_ALLOCATED = 3 * 2 ** 29;
/** 2021-03-04 05:06:07.089 UTC. */
export const MTIME_SECONDS = 1_614_834_367;
export const MTIME_NANOSECONDS = 89_000_000;
export const INODES = { big: 11, small: 12, broken: 13, bug: 14, folder: 15, inside: 16 } as const;

const HELLO = Buffer.from('hello\n');

/** Each 4-byte word is its own number, so a wrong offset shows; 16 GiB until it repeats. */
export function fillPattern(into: Uint8Array, at: number): void {
  const words = Buffer.alloc(into.length + 8);
  const first = Math.floor(at / 4);
  for (let word = 0; word * 4 < words.length - 3; word++) words.writeUInt32LE((first + word) % 2 ** 32, word * 4);
  into.set(words.subarray(at % 4, (at % 4) + into.length));
}

interface Node {
  readonly ino: Ino;
  readonly name: string;
  readonly kind: NodeKind;
  readonly size: number;
  readonly allocated?: number;
  readonly parent: Ino;
}

const FILES: readonly Node[] = [
  { ino: INODES.big, name: 'big.raw', kind: 'file', size: BIG_SIZE, allocated: BIG_ALLOCATED, parent: ROOT },
  { ino: INODES.small, name: 'small.raw', kind: 'file', size: HELLO.length, parent: ROOT },
  { ino: INODES.broken, name: 'broken.raw', kind: 'file', size: 65536, parent: ROOT },
  { ino: INODES.bug, name: 'bug.raw', kind: 'file', size: 65536, parent: ROOT },
  { ino: INODES.folder, name: 'folder', kind: 'directory', size: 0, parent: ROOT },
  { ino: INODES.inside, name: 'inside.raw', kind: 'file', size: 4096, parent: INODES.folder },
];

/** The tree above; `rootKind` `file` makes the top big.raw. `mode` is that of every file. */
export function fakeServed(rootKind: NodeKind, mode = 0o644): Served {
  const root: Node = { ino: ROOT, name: '', kind: rootKind, size: BIG_SIZE, allocated: BIG_ALLOCATED, parent: ROOT };
  const nodes = new Map<Ino, Node>([root, ...FILES].map((node) => [node.ino, node]));
  const get = (ino: Ino): Node => {
    const node = nodes.get(ino);
    if (node === undefined) throw new ImgfsError('missing', `no inode ${ino}`);
    return node;
  };
  return {
    names: {
      lookup(parent, name) {
        const node = FILES.find((file) => file.parent === parent && file.name === name);
        if (node === undefined || get(parent).kind !== 'directory') throw new ImgfsError('missing', `no ${name}`);
        return node.ino;
      },
      attributes: (ino) => attributes(get(ino), mode),
      entries: (directory) => FILES.filter((file) => file.parent === directory),
      open(ino, writable) {
        get(ino);
        if (writable) throw new ImgfsError('read-only', 'nothing here can be written');
        return { keepCache: false, directIo: false };
      },
      release() {},
      ...readOnlyNames,
      space: () => ({ blockSize: 65536, total: 2 ** 50, free: 2 ** 49, files: FILES.length }),
    },
    data: {
      serves: () => true,
      read: (ino, into, at) => read(get(ino), into, at),
      seek: (ino, at, want) => (at >= get(ino).size ? undefined : want === 'data' ? at : get(ino).size),
      ...readOnlyData,
    },
    workers: { module: import.meta.url, job: { rootKind }, count: 2 },
  };
}

/** What a data worker opens: see WorkerPlan. */
export function openData(job: { readonly rootKind: NodeKind }): Served['data'] {
  return fakeServed(job.rootKind).data;
}

function attributes(node: Node, mode: number): Attributes {
  return {
    ino: node.ino,
    kind: node.kind,
    mode: node.kind === 'directory' ? 0o755 : mode,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    links: node.kind === 'directory' ? 2 : 1,
    size: node.size,
    allocated: node.allocated ?? node.size,
    blockSize: 65536,
    mtimeSeconds: MTIME_SECONDS,
    mtimeNanoseconds: MTIME_NANOSECONDS,
    validMs: 1000,
  };
}

function read(node: Node, into: Uint8Array, at: number): number {
  if (node.ino === INODES.broken) throw corrupt('the table is not a table');
  if (node.ino === INODES.bug) throw new TypeError('a bug');
  const length = Math.max(0, Math.min(into.length, node.size - at));
  if (node.ino === INODES.small) into.set(HELLO.subarray(at, at + length));
  else fillPattern(into.subarray(0, length), at);
  return length;
}
