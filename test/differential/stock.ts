/** The files that command lines can name: made once, by qemu-img, and copied for each program and row. */
import fs from 'node:fs';
import path from 'node:path';
import { qemuImg, qemuIo } from '../support/qemu.js';

interface Item {
  /** Makes the file of that name in the current directory of qemu-img's, which is `cwd`. */
  make(at: (name: string) => string, name: string): void;
  /** What must lie beside it. */
  readonly needs?: readonly string[];
}

const MIB = 2 ** 20;

/** Data, a written zero cluster, a discarded one, and an end that was never written. */
const WRITES = ['write -P 1 0 200k', 'write -P 2 1M 64k', 'write -z 1536k 64k', 'write -P 3 2000k 3k'];

/** Each made after those it needs. */
export const STOCK: Readonly<Record<string, Item>> = {
  'a.raw': {
    make: (at, name) => {
      raw(at(name), 3 * MIB);
      qemuIo(at(name), WRITES, ['-f', 'raw']);
    },
  },
  'b.raw': {
    make: (at, name) => {
      raw(at(name), 3 * MIB);
      qemuIo(at(name), [...WRITES, 'write -P 9 2500k 4k'], ['-f', 'raw']);
    },
  },
  'longer.raw': {
    make: (at, name) => {
      raw(at(name), 5 * MIB);
      qemuIo(at(name), WRITES, ['-f', 'raw']);
    },
  },
  'odd.raw': { make: (at, name) => fs.writeFileSync(at(name), Buffer.alloc(100_001, 5)) },
  'zeros.raw': { make: (at, name) => raw(at(name), MIB) },
  'empty.raw': { make: (at, name) => raw(at(name), 0) },
  'text.txt': { make: (at, name) => fs.writeFileSync(at(name), 'no disk at all\n'.repeat(100)) },
  // Their names say something else than what they hold.
  'really.raw': { make: (at, name) => image(at(name), 'qcow2', '3M', WRITES) },
  'zeros.vdi': { make: (at, name) => raw(at(name), MIB) },
  'folder.d': { make: (at, name) => fs.mkdirSync(at(name)) },
  'a.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', WRITES) },
  'old.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', WRITES, 'compat=0.10') },
  'small.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', WRITES, 'cluster_size=512,refcount_bits=1') },
  'ext.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', [...WRITES, 'write 2600k 2k'], 'extended_l2=on') },
  'lazy.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', WRITES, 'lazy_refcounts=on') },
  'blank.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', []) },
  'plain-zstd.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', WRITES, 'compression_type=zstd') },
  'fine.qcow2': { make: (at, name) => image(at(name), 'qcow2', '3M', [], 'cluster_size=512') },
  'huge.qcow2': { make: (at, name) => image(at(name), 'qcow2', '5T', ['write -P 7 4T 64k']) },
  'odd.qcow2': { make: (at, name) => image(at(name), 'qcow2', '1000448', ['write -P 1 900000 100448']) },
  'aes.qcow2': {
    make: (at, name) => {
      const how = 'encrypt.format=aes,encrypt.key-secret=s';
      qemuImg('create', '-q', '--object', 'secret,id=s,data=abc', '-f', 'qcow2', '-o', how, at(name), '1M');
    },
  },
  'full.qcow2': { make: (at, name) => image(at(name), 'qcow2', '1M', [], 'preallocation=full') },
  'meta.qcow2': { make: (at, name) => image(at(name), 'qcow2', '1M', [], 'preallocation=metadata') },
  'packed.qcow2': {
    make: (at, name) => qemuImg('convert', '-c', '-O', 'qcow2', at('a.raw'), at(name)),
    needs: ['a.raw'],
  },
  'zstd.qcow2': {
    make: (at, name) => qemuImg('convert', '-c', '-O', 'qcow2', '-o', 'compression_type=zstd', at('a.raw'), at(name)),
    needs: ['a.raw'],
  },
  'snap.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '3M', WRITES);
      qemuImg('snapshot', '-c', 'first', at(name));
      qemuIo(at(name), ['write -P 8 2M 128k']);
      qemuImg('snapshot', '-c', 'second one', at(name));
      qemuIo(at(name), ['write -P 9 0 64k']);
      qemuImg('snapshot', '-c', '1', at(name));
    },
  },
  'grown.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '2M', ['write -P 4 0 1M']);
      qemuImg('snapshot', '-c', 'small', at(name));
      qemuImg('resize', '-q', at(name), '3M');
    },
  },
  'bits.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '3M', WRITES);
      qemuImg('bitmap', '--add', '-g', '32k', at(name), 'one');
      qemuImg('bitmap', '--add', '--disable', at(name), 'two');
      qemuIo(at(name), ['write -P 6 300k 64k']);
    },
  },
  'base.qcow2': { make: (at, name) => image(at(name), 'qcow2', '2M', ['write -P 1 0 256k', 'write -P 2 1M 128k']) },
  'other.qcow2': { make: (at, name) => image(at(name), 'qcow2', '2M', ['write -P 1 0 128k', 'write -P 5 1M 128k']) },
  'mid.qcow2': {
    make: (at, name) => overlay(at(name), 'base.qcow2', 'qcow2', '3M', ['write -P 3 64k 64k', 'write -z 1M 64k']),
    needs: ['base.qcow2'],
  },
  'top.qcow2': {
    make: (at, name) => overlay(at(name), 'mid.qcow2', 'qcow2', '3M', ['write -P 4 128k 100k', 'write -P 4 2500k 10k']),
    needs: ['mid.qcow2'],
  },
  'wide.qcow2': {
    make: (at, name) => overlay(at(name), 'base.qcow2', 'qcow2', '1M', ['write -P 3 64k 64k']),
    needs: ['base.qcow2'],
  },
  'overraw.qcow2': {
    make: (at, name) => overlay(at(name), 'a.raw', 'raw', '3M', ['write -P 6 100k 10k', 'write -P 6 2M 70k']),
    needs: ['a.raw'],
  },
  'lost.qcow2': {
    make: (at, name) => qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', 'gone.raw', '-F', 'raw', at(name), '1M'),
  },
  'leaky.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '3M', WRITES);
      // The entry of a cluster that nothing refers to, in the refcount block at the third cluster.
      patch(at(name), 2 * 65536 + 2 * 100, [0, 1]);
      fs.truncateSync(at(name), 101 * 65536);
    },
  },
  'corrupt.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '3M', WRITES);
      // The refcount of the first cluster of data.
      patch(at(name), 2 * 65536 + 2 * 5, [0, 0]);
    },
  },
  'dirty.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '3M', WRITES, 'lazy_refcounts=on');
      patch(at(name), 79, [1]);
    },
  },
  'future.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '3M', WRITES);
      patch(at(name), 72, [0x80]);
    },
  },
  'cut.qcow2': {
    make: (at, name) => {
      image(at(name), 'qcow2', '3M', []);
      fs.truncateSync(at(name), 60);
    },
  },
  'a.qcow': {
    make: (at, name) =>
      image(
        at(name),
        'qcow',
        '3M',
        WRITES.filter((one) => !one.includes('-z')),
      ),
  },
  'a.vdi': { make: (at, name) => image(at(name), 'vdi', '3M', WRITES) },
  'static.vdi': { make: (at, name) => image(at(name), 'vdi', '3M', WRITES, 'static=on') },
  'a.vmdk': { make: (at, name) => image(at(name), 'vmdk', '3M', WRITES) },
  'flat.vmdk': {
    make: (at, name) => image(at(name), 'vmdk', '3M', WRITES, 'subformat=monolithicFlat'),
    needs: ['flat-flat.vmdk'],
  },
  // Made with flat.vmdk.
  'flat-flat.vmdk': { make: () => {} },
  'stream.vmdk': {
    make: (at, name) => qemuImg('convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', at('a.raw'), at(name)),
    needs: ['a.raw'],
  },
  'base.vmdk': { make: (at, name) => image(at(name), 'vmdk', '2M', ['write -P 1 0 256k']) },
  'top.vmdk': {
    make: (at, name) => overlay(at(name), 'base.vmdk', 'vmdk', '2M', ['write -P 3 64k 64k'], 'vmdk'),
    needs: ['base.vmdk'],
  },
  'a.vhd': { make: (at, name) => image(at(name), 'vpc', '3M', []) },
};

/** Makes all of it in a directory. */
export function makeStock(directory: string): void {
  const at = (name: string): string => path.join(directory, name);
  for (const [name, item] of Object.entries(STOCK)) item.make(at, name);
}

/** The files of the stock that these words name, with what lies below them. */
export function namedIn(text: readonly string[]): readonly string[] {
  const named = text.flatMap((word) => word.split(/[=,:]|\.\//)).filter((word) => word in STOCK);
  const below = named.flatMap((name) => STOCK[name]?.needs ?? []).filter((name) => !named.includes(name));
  return [...new Set([...named, ...(below.length === 0 ? [] : namedIn([...named, ...below]))])];
}

function raw(file: string, size: number): void {
  fs.closeSync(fs.openSync(file, 'w'));
  fs.truncateSync(file, size);
}

function image(file: string, format: string, size: string, commands: readonly string[], options?: string): void {
  qemuImg('create', '-q', '-f', format, ...(options === undefined ? [] : ['-o', options]), file, size);
  if (commands.length > 0) qemuIo(file, commands, ['-f', format]);
}

function overlay(
  file: string,
  backing: string,
  format: string,
  size: string,
  commands: readonly string[],
  own = 'qcow2',
): void {
  qemuImg('create', '-q', '-f', own, '-b', backing, '-F', format, file, size);
  qemuIo(file, commands, ['-f', own]);
}

function patch(file: string, at: number, bytes: readonly number[]): void {
  const fd = fs.openSync(file, 'r+');
  fs.writeSync(fd, Buffer.from(bytes), 0, bytes.length, at);
  fs.closeSync(fd);
}
