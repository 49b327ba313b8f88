/** Images that qemu-img makes, for comparing what we tell of them with what it tells. */
import fs from 'node:fs';
import { qemuImg, qemuIo } from '../support/qemu.js';

/** Paths in the directory in which an image is made. */
export type At = (name: string) => string;

export interface Recipe {
  readonly name: string;
  /** Makes the image with all it needs and returns its path. */
  make(at: At): string;
  /** For what probing would refuse to decide. */
  readonly format?: string;
  /** qemu-img cannot map it. */
  readonly infoOnly?: string;
}

const SECRET = ['--object', 'secret,id=s,data=abc'];

function qcow2(at: At, options: string, size = '8M', commands: readonly string[] = ['write -P 1 64k 200k']): string {
  const path = at('disk.qcow2');
  create(path, options, size);
  if (commands.length > 0) qemuIo(path, commands);
  return path;
}

function create(path: string, options: string, size: string): void {
  qemuImg('create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options]), path, size);
}

function raw(at: At, size: number, ...writes: readonly [number, number][]): string {
  const path = at('disk.raw');
  const fd = fs.openSync(path, 'w');
  for (const [from, length] of writes) fs.writeSync(fd, Buffer.alloc(length, 1), 0, length, from);
  fs.ftruncateSync(fd, size);
  fs.closeSync(fd);
  return path;
}

/** An overlay of `size` over a qcow2 of `below`, itself over a raw file where `deep`. */
function chain(at: At, size: string, below: string, deep = false): string {
  if (deep) {
    fs.writeFileSync(at('root.raw'), Buffer.alloc(1024 * 1024, 7));
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'root.raw', '-F', 'raw', at('base.qcow2'), below);
  } else create(at('base.qcow2'), '', below);
  qemuIo(at('base.qcow2'), ['write -P 2 0 128k', 'write -P 2 900k 64k', 'write -z 256k 64k']);
  qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', at('disk.qcow2'), size);
  qemuIo(at('disk.qcow2'), ['write -P 3 64k 64k', 'write -z 0 64k', 'write -P 3 512k 4k']);
  return at('disk.qcow2');
}

/** The key derivation is timed while it is made, which a busy machine can spoil: a few attempts. */
function encrypted(at: At, format: string): string {
  const options = `encrypt.format=${format},encrypt.key-secret=s${format === 'luks' ? ',encrypt.iter-time=1' : ''}`;
  for (let attempt = 0; ; attempt++) {
    try {
      qemuImg('create', '-q', ...SECRET, '-f', 'qcow2', '-o', options, at('disk.qcow2'), '1M');
      return at('disk.qcow2');
    } catch (error) {
      if (attempt === 9) throw error;
    }
  }
}

function compressed(at: At, type: string): string {
  const path = raw(at, 4 * 1024 * 1024, [65_536, 500_000], [2_097_152, 65_536]);
  qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', `compression_type=${type}`, path, at('disk.qcow2'));
  qemuIo(at('disk.qcow2'), ['write -P 5 128k 64k']);
  return at('disk.qcow2');
}

/** Sets a bit of the incompatible features (the last byte at 79), as a writer that died would leave it. */
function dirty(at: At): string {
  const path = qcow2(at, 'lazy_refcounts=on');
  const fd = fs.openSync(path, 'r+');
  fs.writeSync(fd, Buffer.from([1]), 0, 1, 79);
  fs.closeSync(fd);
  return path;
}

function withSnapshots(at: At): string {
  const path = qcow2(at, '');
  qemuImg('snapshot', '-c', 'first', path);
  qemuIo(path, ['write -P 9 1M 64k']);
  qemuImg('snapshot', '-c', 'second', path);
  return path;
}

const BITMAPS = ['--add -g 32k one', '--add --disable two'];

function withBitmaps(at: At): string {
  const path = qcow2(at, '');
  for (const bitmap of BITMAPS) {
    const [name = '', ...options] = bitmap.split(' ').reverse();
    qemuImg('bitmap', ...options.reverse(), path, name);
  }
  return path;
}

const MIB = 1024 * 1024;

/** All whole sectors: what qemu-img rounds is compared separately. */
export const RECIPES: readonly Recipe[] = [
  { name: 'raw, all hole', make: (at) => raw(at, MIB) },
  { name: 'raw, sparse', make: (at) => raw(at, 8 * MIB, [0, 4096], [MIB, 100_000], [7 * MIB, MIB]) },
  { name: 'raw, full', make: (at) => raw(at, 65_536, [0, 65_536]) },
  { name: 'qcow2, empty', make: (at) => qcow2(at, '', '1M', []) },
  { name: 'qcow2', make: (at) => qcow2(at, '') },
  { name: 'version 2', make: (at) => qcow2(at, 'compat=0.10') },
  { name: 'small clusters', make: (at) => qcow2(at, 'cluster_size=512,refcount_bits=1') },
  { name: 'zeros', make: (at) => qcow2(at, '', '8M', ['write 0 1M', 'write -z 64k 64k', 'write -z -u 256k 64k']) },
  {
    name: 'subclusters',
    make: (at) => qcow2(at, 'extended_l2=on', '8M', ['write 4k 2k', 'write -z 20k 2k', 'write 64k 64k']),
  },
  { name: 'preallocated metadata', make: (at) => qcow2(at, 'preallocation=metadata') },
  { name: 'preallocated fully', make: (at) => qcow2(at, 'preallocation=full', '1M') },
  { name: 'compressed with zlib', make: (at) => compressed(at, 'zlib') },
  { name: 'compressed with zstd', make: (at) => compressed(at, 'zstd') },
  { name: 'lazy refcounts', make: (at) => qcow2(at, 'lazy_refcounts=on') },
  { name: 'dirty', make: dirty },
  { name: 'snapshots', make: withSnapshots },
  { name: 'bitmaps', make: withBitmaps },
  { name: 'data file', make: (at) => qcow2(at, `data_file=${at('data.bin')}`) },
  { name: 'raw data file', make: (at) => qcow2(at, `data_file=${at('data.bin')},data_file_raw=on`) },
  { name: 'longer backing image', make: (at) => chain(at, '1M', '2M') },
  { name: 'shorter backing image', make: (at) => chain(at, '3M', '1M') },
  { name: 'chain of three', make: (at) => chain(at, '3M', '2M', true) },
  { name: 'LUKS', make: (at) => encrypted(at, 'luks'), infoOnly: 'needs the key' },
  { name: 'AES', make: (at) => encrypted(at, 'aes'), infoOnly: 'needs the key' },
];
