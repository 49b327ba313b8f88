import fs from 'node:fs';
import { expect } from 'chai';
import { extents } from '../../../src/image/image.js';
import { expectAsQemu, infoOf, qemuInfo } from '../../support/as-qemu.js';
import { EncryptedQemu, passwordFile } from '../../support/encrypted.js';
import { openFile, readAll } from '../../support/images.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';

interface Case {
  readonly name: string;
  readonly options: string;
  readonly size?: number;
}

const MIB = 1024 * 1024;

const CASES: readonly Case[] = [
  ...[9, 10, 12, 14, 16, 18, 21].map((bits) => ({
    name: `clusters of 2^${bits}`,
    options: `cluster_size=${2 ** bits}`,
  })),
  ...[1, 2, 4, 8, 32, 64].map((bits) => ({ name: `${bits}-bit refcounts`, options: `refcount_bits=${bits}` })),
  { name: 'version 2', options: 'compat=0.10' },
  { name: 'version 2, 512-byte clusters', options: 'compat=0.10,cluster_size=512' },
  { name: 'lazy refcounts', options: 'lazy_refcounts=on' },
  { name: 'zstd', options: 'compression_type=zstd' },
  { name: 'zstd, 2 MiB clusters', options: 'compression_type=zstd,cluster_size=2M' },
  { name: 'zstd, 512-byte clusters', options: 'compression_type=zstd,cluster_size=512' },
  { name: 'subclusters', options: 'extended_l2=on' },
  { name: 'subclusters of 512 bytes', options: 'extended_l2=on,cluster_size=16k' },
  { name: 'subclusters, 2 MiB clusters, zstd', options: 'extended_l2=on,cluster_size=2M,compression_type=zstd' },
  { name: 'preallocated metadata', options: 'preallocation=metadata' },
  { name: 'preallocated metadata, 4 KiB clusters', options: 'preallocation=metadata,cluster_size=4k' },
  { name: 'preallocated metadata, subclusters', options: 'preallocation=metadata,extended_l2=on' },
  { name: 'preallocated by falloc', options: 'preallocation=falloc' },
  { name: 'preallocated fully', options: 'preallocation=full' },
  { name: 'a size that is no multiple of the cluster', options: 'cluster_size=64k', size: 5 * MIB + 512 * 3 },
  { name: 'one sector', options: 'cluster_size=64k', size: 512 },
  { name: 'nothing', options: 'cluster_size=64k', size: 0 },
];

/** Random writes, zeros and discards; the same for one seed. */
function scribble(path: string, size: number, random: Random, compress: boolean): void {
  if (size < 4096) {
    if (size > 0) qemuIo(path, [`write -P 77 0 ${size}`]);
    return;
  }
  if (compress) compressSome(path, size, random);
  const commands: string[] = [];
  for (let i = 0; i < 24; i++) {
    const at = random.below(size / 512) * 512;
    const length = Math.min(size - at, (1 + random.below(i % 3 === 0 ? 600 : 20)) * 512);
    const how = random.below(6);
    if (how === 0) commands.push(`write -z ${at} ${length}`);
    else if (how === 1) commands.push(`write -z -u ${at} ${length}`);
    else if (how === 2) commands.push(`discard ${at} ${length}`);
    else commands.push(`write -P ${1 + random.below(250)} ${at} ${length}`);
  }
  qemuIo(path, commands, ['-f', 'qcow2', '-d', 'unmap']);
}

/** QEMU compresses only into clusters that are not allocated yet. */
function compressSome(path: string, size: number, random: Random): void {
  const { 'cluster-size': unit } = qemuImgJson('info', '--output=json', path) as { 'cluster-size': number };
  const chosen = new Set(Array.from({ length: 6 }, () => random.below(Math.max(1, Math.floor(size / unit))) * unit));
  const write = (at: number): string => `write -c -P ${1 + random.below(250)} ${at} ${Math.min(unit, size - at)}`;
  qemuIo(path, [...chosen].map(write));
}

const LUKS = 'encrypt.format=luks,encrypt.iter-time=1';
const ESSIV =
  'encrypt.format=luks,encrypt.iter-time=1,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256';

describe('qcow2 as qemu-img makes it', function () {
  this.timeout(30_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const random = new Random();

  for (const { name, options, size = 6 * MIB } of CASES) {
    it(name, () => {
      const path = directory.path('image.qcow2');
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, String(size));
      expectAsQemu(path, 'qcow2');
      scribble(path, size, random, !options.includes('preallocation'));
      expectAsQemu(path, 'qcow2');
      fs.rmSync(path);
    });
  }

  for (const raw of ['on', 'off']) {
    it(`external data file, raw ${raw}`, () => {
      const path = directory.path('meta.qcow2');
      const data = directory.path('data.bin');
      const options = `data_file=${data},data_file_raw=${raw}`;
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, String(4 * MIB));
      expectAsQemu(path, 'qcow2');
      scribble(path, 4 * MIB, random, false);
      expectAsQemu(path, 'qcow2');
      fs.rmSync(path);
    });
  }

  it('compressed as a whole, zlib and zstd', () => {
    const source = directory.path('source.raw');
    const bytes = Buffer.concat(Array.from({ length: 400 }, (_, i) => Buffer.alloc(4096, random.bytes(8 + (i % 90)))));
    fs.writeFileSync(source, bytes);
    for (const options of ['compression_type=zlib', 'compression_type=zstd', 'compression_type=zlib,cluster_size=4k']) {
      const path = directory.path('packed.qcow2');
      qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', '-o', options, source, path);
      expectAsQemu(path, 'qcow2');
    }
  });

  it('bitmaps, with their flags', () => {
    const path = directory.path('bitmaps.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', path, '4M');
    qemuImg('bitmap', '--add', '-g', '32k', path, 'one');
    qemuImg('bitmap', '--add', '--disable', path, 'two');
    expectAsQemu(path, 'qcow2');
  });

  for (const options of ['encrypt.format=aes', LUKS, ESSIV]) {
    it(`told, not read without its passphrase: ${options}`, () => {
      const path = directory.path('encrypted.qcow2');
      const qemu = new EncryptedQemu('qcow2', passwordFile(directory.path('secret')));
      qemu.create(path, `${options},encrypt.key-secret=s`, MIB);
      qemu.io(path, 'write -P 1 0 64k');
      const image = openFile(path);
      try {
        expect(infoOf(image)).to.deep.equal(qemuInfo(path));
        expect(() => image.read(new Uint8Array(1), 0)).to.throw(/encrypted, and no passphrase was given/);
      } finally {
        image.close();
      }
    });
  }
});

describe('qcow2 chains as qemu-img makes them', function () {
  this.timeout(30_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const random = new Random();

  for (const [name, base, top] of [
    ['equal sizes', 4 * MIB, 4 * MIB],
    ['a shorter backing file', 2 * MIB + 512, 4 * MIB],
    ['a longer backing file', 4 * MIB, 2 * MIB + 1024],
  ] as const) {
    for (const options of ['cluster_size=64k', 'extended_l2=on,cluster_size=128k']) {
      it(`${name}, ${options}`, () => {
        const [bottom, middle, upper] = ['bottom', 'middle', 'upper'].map((file) => directory.path(`${file}.qcow2`));
        if (bottom === undefined || middle === undefined || upper === undefined) throw new Error('no paths');
        qemuImg('create', '-q', '-f', 'qcow2', bottom, String(base));
        scribble(bottom, base, random, true);
        qemuImg('create', '-q', '-f', 'qcow2', '-o', options, '-b', bottom, '-F', 'qcow2', middle, String(top));
        scribble(middle, top, random, true);
        qemuImg('create', '-q', '-f', 'qcow2', '-b', middle, '-F', 'qcow2', upper, String(4 * MIB));
        expectAsQemu(upper, 'qcow2');
        scribble(upper, 4 * MIB, random, false);
        expectAsQemu(middle, 'qcow2');
        expectAsQemu(upper, 'qcow2');
      });
    }
  }

  it('a raw backing file of odd length', () => {
    const base = directory.path('base.raw');
    fs.writeFileSync(base, random.bytes(100_000));
    const path = directory.path('over-raw.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', path, '1M');
    qemuIo(path, ['write -P 3 65536 4096']);
    const image = openFile(path);
    const seen = readAll(image);
    expect(seen.equals(qemuBytes(path, '-f', 'qcow2'))).to.equal(true);
    image.close();
  });
});

describe('qcow2 snapshots as qemu-img makes them', function () {
  this.timeout(30_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const random = new Random();

  for (const options of ['compat=1.1', 'compat=0.10', 'extended_l2=on', 'cluster_size=512', 'refcount_bits=8']) {
    it(options, () => {
      const path = directory.path('snapshots.qcow2');
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, '3M');
      const expected: Buffer[] = [];
      for (const name of ['one', 'two']) {
        scribble(path, 3 * MIB, random, name === 'one');
        qemuImg('snapshot', '-c', name, path);
        expected.push(qemuBytes(path, '-f', 'qcow2', '-l', name));
      }
      scribble(path, 3 * MIB, random, false);
      const image = openFile(path);
      expect(image.snapshots().map(({ id, name }) => [id, name])).to.deep.equal([
        ['1', 'one'],
        ['2', 'two'],
      ]);
      for (const [index, bytes] of expected.entries()) {
        const snapshot = image.openSnapshot(String(index + 1));
        expect(readAll(snapshot).equals(bytes)).to.equal(true);
        expect([...extents(snapshot)].reduce((sum, { length }) => sum + length, 0)).to.equal(snapshot.size);
        snapshot.close();
      }
      image.close();
      expectAsQemu(path, 'qcow2');
    });
  }

  it('keeps the size of a snapshot taken before a resize', () => {
    const path = directory.path('resized.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', path, '2M');
    qemuIo(path, ['write -P 5 0 2M']);
    qemuImg('snapshot', '-c', 'small', path);
    const before = qemuBytes(path, '-f', 'qcow2', '-l', 'small');
    qemuImg('resize', '-q', path, '5M');
    qemuIo(path, ['write -P 6 1M 4M']);
    const image = openFile(path);
    const snapshot = image.openSnapshot('1');
    expect(snapshot.size).to.equal(2 * MIB);
    expect(readAll(snapshot).equals(before)).to.equal(true);
    snapshot.close();
    image.close();
  });
});
