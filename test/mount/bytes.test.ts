/** Every byte of every view equals what QEMU reads, however it is read. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { forEachAdapter } from '../support/adapters.js';
import { type Place, place } from '../support/place.js';
import { imgfs, must } from '../support/program.js';
import { needsTool, qemuBytes, qemuImg, qemuIo } from '../support/qemu.js';
import { Random } from '../support/seed.js';

const MIB = 1024 * 1024;
const SIZE = 6 * MIB;

/** Creation options of the images, and how they are filled where not by writes. */
const VARIANTS: readonly { readonly name: string; readonly options: string; readonly packed?: true }[] = [
  { name: 'version 2', options: 'compat=0.10' },
  { name: '512-byte clusters', options: 'cluster_size=512' },
  { name: '4 KiB clusters, 1-bit refcounts', options: 'cluster_size=4096,refcount_bits=1' },
  { name: '2 MiB clusters', options: 'cluster_size=2M' },
  { name: 'subclusters', options: 'extended_l2=on,cluster_size=64k' },
  { name: 'metadata preallocated', options: 'preallocation=metadata' },
  { name: 'compressed by zlib', options: 'compression_type=zlib', packed: true },
  { name: 'compressed by zstd', options: 'compression_type=zstd,cluster_size=32k', packed: true },
  { name: 'external data file', options: 'data_file=@.data,data_file_raw=off' },
];

/** Data, zeros and holes; partly through the middle of clusters and subclusters. */
const WRITES = [
  'write -P 17 0 70k',
  'write -P 34 1M 1537k',
  'write -z 1200k 300k',
  'write -P 51 3000k 3k',
  'write -P 7 6143k 1k',
];

function build(here: Place, n: number): string {
  const { options, packed } = VARIANTS[n]!;
  const image = here.path(`variant-${n}.qcow2`);
  const chosen = options.replace('@', image);
  if (packed === undefined) {
    qemuImg('create', '-q', '-f', 'qcow2', '-o', chosen, image, String(SIZE));
    qemuIo(image, WRITES);
    return image;
  }
  const random = new Random();
  const raw = here.file(
    'plain.raw',
    Buffer.concat([random.bytes(MIB), Buffer.alloc(4 * MIB, 'text '), random.bytes(MIB)]),
  );
  qemuImg('convert', '-q', '-c', '-f', 'raw', '-O', 'qcow2', '-o', chosen, raw, image);
  return image;
}

function sum(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

forEachAdapter('bytes of the views', (_, option) => {
  needsTool('qemu-img', 'qemu-io');
  const here = place();

  it('are those of QEMU, for every kind of image', () => {
    const images = VARIANTS.map((_variant, n) => build(here, n));
    const at = here.mount(images, option);
    VARIANTS.forEach(({ name }, n) => {
      const view = fs.readFileSync(path.join(at, `variant-${n}`, 'disk.raw'));
      expect(sum(view), name).to.equal(sum(qemuBytes(images[n]!)));
    });
  });

  it('are the same in pieces of any size, with O_DIRECT, and in any order', () => {
    const image = build(here, 4);
    const disk = qemuBytes(image);
    const view = path.join(here.mount(image, option), 'disk.raw');
    const copy = here.path('copy.raw');
    for (const how of ['bs=512', 'bs=4k', 'bs=65537', 'bs=3M', 'bs=4k iflag=direct', 'bs=1M iflag=direct']) {
      // Nothing cached: every size reaches imgfs.
      fs.writeFileSync('/proc/sys/vm/drop_caches', '1');
      must('dd', `if=${view}`, `of=${copy}`, 'status=none', ...how.split(' '));
      expect(sum(fs.readFileSync(copy)), how).to.equal(sum(disk));
    }
    const random = new Random();
    const file = fs.openSync(view, 'r');
    for (let n = 0; n < 300; n++) {
      const start = random.below(SIZE + 1000);
      const into = Buffer.alloc(1 + random.below(random.below(2) === 0 ? 5000 : 400_000));
      const length = fs.readSync(file, into, 0, into.length, start);
      const expected = disk.subarray(start, start + into.length);
      expect(length).to.equal(expected.length);
      expect(into.subarray(0, length).equals(expected), `${start} + ${length}`).to.equal(true);
    }
    fs.closeSync(file);
  });

  it('are exact for raw images of any length', () => {
    const random = new Random();
    const lengths = [0, 1, 511, 513, 4097, 1_048_577];
    const images = lengths.map((length) => here.file(`raw-${length}.img`, random.bytes(length)));
    const at = here.mount(images, option);
    lengths.forEach((length, n) => {
      const view = fs.readFileSync(path.join(at, `raw-${length}`, 'disk.raw'));
      expect(view.equals(fs.readFileSync(images[n]!)), `${length} bytes`).to.equal(true);
    });
  });

  it('of the layers of a chain are those of each image alone', () => {
    const [base, middle, top] = ['base.img', 'middle.qcow2', 'top.qcow2'].map((name) => here.path(name)) as [
      string,
      string,
      string,
    ];
    fs.writeFileSync(base, new Random().bytes(3 * MIB + 512));
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.img', '-F', 'raw', middle, '5M');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=4k', '-b', middle, '-F', 'qcow2', top, '4M');
    qemuIo(middle, ['write -P 1 64k 200k', 'write -z 1M 128k', 'write -P 3 4500k 100k']);
    qemuIo(top, ['write -P 2 100k 10k', 'write -z 2M 8k']);
    const at = here.mount(top, option);
    expect(fs.readdirSync(path.join(at, 'layers')).sort()).to.deep.equal(['0-base.raw', '1-middle.raw', '2-top.raw']);
    const layer = (name: string): string => sum(fs.readFileSync(path.join(at, name)));
    expect(layer('layers/0-base.raw')).to.equal(sum(fs.readFileSync(base)));
    expect(layer('layers/1-middle.raw')).to.equal(sum(qemuBytes(middle, '-U')));
    expect(layer('layers/2-top.raw')).to.equal(sum(qemuBytes(top, '-U')));
    expect(layer('disk.raw')).to.equal(layer('layers/2-top.raw'));
  });

  it('of snapshots that QEMU made are those that QEMU reads', () => {
    const image = here.path('snapshots.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', image, '4M');
    for (const n of [1, 2, 3]) {
      qemuIo(image, [`write -P ${n} ${n * 300}k 700k`]);
      qemuImg('snapshot', '-c', `state ${n}`, image);
      if (n === 1) qemuImg('resize', '-q', image, '8M');
    }
    qemuIo(image, ['write -P 9 0 5M']);
    // qemu-img shows a snapshot in the size the disk has today.
    const expected = [1, 2, 3].map((n) => {
      const bytes = qemuBytes(image, '-l', `snapshot.name=state ${n}`);
      return sum(bytes.subarray(0, n === 1 ? 4 * MIB : 8 * MIB));
    });
    const at = here.mount(image, option);
    for (const n of [1, 2, 3]) {
      const view = fs.readFileSync(path.join(at, 'snapshots', `state ${n}.raw`));
      expect(sum(view), `state ${n}`).to.equal(expected[n - 1]);
      expect(view.length).to.equal(n === 1 ? 4 * MIB : 8 * MIB);
    }
  });

  it('of a mount that is only read come from an image that stays as it was', () => {
    const image = build(here, 3);
    const before = { sum: sum(fs.readFileSync(image)), mtime: fs.statSync(image, { bigint: true }).mtimeNs };
    const at = here.mount(image, option);
    must('cat', path.join(at, 'disk.raw'));
    must('find', at, '-type', 'f', '-size', '+0');
    expect(imgfs('umount', at).code).to.equal(0);
    const after = { sum: sum(fs.readFileSync(image)), mtime: fs.statSync(image, { bigint: true }).mtimeNs };
    expect(after).to.deep.equal(before);
  });
});
