/** `imgfs convert` beside `qemu-img convert`: the time until the target is durable, start-up included. */
import fs from 'node:fs';
import path from 'node:path';
import type { Contest, Group, Readings } from './contest.js';
import { convert as qemuConvert, writeDisk } from './images.js';
import { Loop } from './loop.js';
import { IMGFS } from './servers.js';
import { onDisk, run } from './workplace.js';

const MIB = 2 ** 20;
const PLAIN_BYTES = 1024 * MIB;
const PACKED_BYTES = 512 * MIB;
const SPARSE_BYTES = 100 * 1024 * MIB;
/** Pieces of the sparse disk that hold something, evenly spread. */
const SPARSE_PIECES = 1600;
const SPARSE_PIECE = 64 * 1024;
/** What lies on a file system that shares blocks: a small disk, and one of so many times its content. */
const SHARED_BYTES = 512 * MIB;
const LARGE = 8;

const OURS = 'imgfs';
const THEIRS = 'qemu-img';
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  [OURS]: [process.execPath, IMGFS],
  [THEIRS]: ['qemu-img'],
};

interface Conversion {
  readonly id: string;
  readonly title: string;
  readonly expected: number;
  /** Between the verb and the target. */
  readonly args: readonly string[];
  /** Where the target is made. */
  readonly directory: string;
}

export async function converting(): Promise<Group> {
  const directory = onDisk();
  const at = (name: string): string => path.join(directory, name);
  writeDisk(at('plain.raw'), PLAIN_BYTES);
  const plain = await qemuConvert(at('plain.raw'), at('plain.qcow2'), 'qcow2');
  const vmdk = await qemuConvert(at('plain.raw'), at('plain.vmdk'), 'vmdk');
  fs.rmSync(at('plain.raw'));
  writeDisk(at('short.raw'), PACKED_BYTES);
  const packed = await qemuConvert(at('short.raw'), at('packed.qcow2'), 'qcow2', '-c');
  sparseDisk(at('sparse.raw'));
  const sparse = await qemuConvert(at('sparse.raw'), at('sparse.qcow2'), 'qcow2');
  const xfs = await sharing(directory);
  const shared = path.join(xfs.mountpoint, 'shared.raw');
  writeDisk(shared, SHARED_BYTES);
  const large = path.join(xfs.mountpoint, 'large.raw');
  repeat(shared, large, LARGE);
  await run('sync', []);

  const conversions: readonly Conversion[] = [
    { id: 'to-raw', title: 'qcow2 to raw, 1 GiB', expected: 1, args: ['-O', 'raw', plain.path], directory },
    { id: 'to-qcow2', title: 'vmdk to qcow2, 1 GiB', expected: 1, args: ['-O', 'qcow2', vmdk.path], directory },
    packing(directory, 'zlib', at('short.raw')),
    packing(directory, 'zstd', at('short.raw')),
    { id: 'unpack', title: 'zlib qcow2 to raw, 512 MiB', expected: 1, args: ['-O', 'raw', packed.path], directory },
    {
      id: 'sparse',
      title: '100 GiB with 100 MiB in it, qcow2 to qcow2',
      expected: 1.5,
      args: ['-O', 'qcow2', sparse.path],
      directory,
    },
    {
      id: 'sparse-raw',
      title: '100 GiB with 100 MiB in it, raw to raw',
      expected: 1.5,
      args: ['-f', 'raw', '-O', 'raw', at('sparse.raw')],
      directory,
    },
    {
      id: 'shared',
      title: 'raw to raw on XFS, 512 MiB',
      expected: 1.5,
      args: ['-f', 'raw', '-O', 'raw', shared],
      directory: xfs.mountpoint,
    },
    {
      id: 'shared-by-host',
      title: 'raw to qcow2 on XFS with -C, 512 MiB',
      expected: 1.5,
      args: ['-C', '-f', 'raw', '-O', 'qcow2', shared],
      directory: xfs.mountpoint,
    },
    {
      id: 'large-by-host',
      title: `raw to qcow2 on XFS with -C, ${(LARGE * SHARED_BYTES) / 1024 / MIB} GiB`,
      expected: 1.5,
      args: ['-C', '-f', 'raw', '-O', 'qcow2', large],
      directory: xfs.mountpoint,
    },
  ];
  return {
    title: 'convert',
    about: `time until the target is durable, fsync for both; images in ${path.dirname(directory)}, sources in the page cache`,
    contestants: [OURS, THEIRS],
    ours: OURS,
    rivals: [THEIRS],
    contests: conversions.map(contest),
    end: async () => {
      await xfs.loop.unmount();
      await xfs.loop.end();
    },
  };
}

function packing(directory: string, type: string, source: string): Conversion {
  const args = ['-c', '-f', 'raw', '-O', 'qcow2', '-o', `compression_type=${type}`, source];
  return { id: `pack-${type}`, title: `raw to qcow2 -c, ${type}, 512 MiB`, expected: 1, args, directory };
}

function contest({ id, title, expected, args, directory }: Conversion): Contest {
  const once = async (name: string): Promise<Readings> => {
    const [program, ...first] = PROGRAMS[name] as readonly [string, ...string[]];
    const target = path.join(directory, `target-${id}`);
    const begin = performance.now();
    await run(program, [...first, 'convert', ...args, target]);
    const fd = fs.openSync(target, 'r+');
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    const seconds = (performance.now() - begin) / 1000;
    fs.rmSync(target);
    // Nothing of it is left for the next to wait for.
    await run('sync', []);
    return { [id]: seconds };
  };
  return {
    measures: [{ id, title, unit: 's', better: 'less', expected }],
    warmUp: true,
    contestants: new Map([OURS, THEIRS].map((name) => [name, () => once(name)])),
  };
}

/** Pieces of random bytes, as a file system leaves them that is hardly used. */
function sparseDisk(file: string): void {
  const source = `${file}.pieces`;
  writeDisk(source, SPARSE_PIECES * SPARSE_PIECE);
  const pieces = fs.readFileSync(source);
  fs.rmSync(source);
  const fd = fs.openSync(file, 'w');
  fs.ftruncateSync(fd, SPARSE_BYTES);
  for (let n = 0; n < SPARSE_PIECES; n++) {
    const at = Math.floor(((n / SPARSE_PIECES) * SPARSE_BYTES) / SPARSE_PIECE) * SPARSE_PIECE;
    fs.writeSync(fd, pieces, n * SPARSE_PIECE, SPARSE_PIECE, at);
  }
  fs.closeSync(fd);
}

/** Writes the content of `from` `times` times, in blocks of its own. */
function repeat(from: string, to: string, times: number): void {
  const content = fs.readFileSync(from);
  const fd = fs.openSync(to, 'w');
  for (let n = 0; n < times; n++) fs.writeSync(fd, content, 0, content.length, n * content.length);
  fs.closeSync(fd);
}

async function sharing(directory: string): Promise<{ readonly loop: Loop; readonly mountpoint: string }> {
  const file = path.join(directory, 'xfs');
  fs.writeFileSync(file, '');
  // Where little is left of it, XFS ends to share.
  fs.truncateSync(file, 5 * LARGE * SHARED_BYTES);
  const mountpoint = path.join(directory, 'xfs-mounted');
  const loop = await Loop.over(file, mountpoint);
  await loop.make('xfs');
  await loop.mount();
  return { loop, mountpoint };
}
