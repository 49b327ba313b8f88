import fs from 'node:fs';
import { expect } from 'chai';
import type { Image } from '../../../src/image/image.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { readAll } from '../../support/images.js';
import { needsTool, qemuImg, qemuImgJson } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';
import { expectClean, expectDisk, openWritable } from '../../support/written.js';

const MIB = 1024 * 1024;

interface Listed {
  readonly snapshots?: readonly { readonly id: string; readonly name: string; readonly 'vm-state-size': number }[];
}

/** A disk with its snapshots, as it should be. */
class Model {
  disk: Buffer;
  snapshots = new Map<string, { name: string; disk: Buffer }>();

  constructor(size: number) {
    this.disk = Buffer.alloc(size);
  }
}

describe('qcow2 snapshots and sizes, written', function () {
  this.timeout(120_000);
  needsTool('qemu-img');
  const files = scratch();

  function create(options: string, size: number): MemoryStorage {
    const file = files.path('image');
    fs.rmSync(file, { force: true });
    qemuImg('create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options]), file, String(size));
    return MemoryStorage.from(fs.readFileSync(file));
  }

  /** Closes the image and has QEMU compare it with the model. */
  function judge(storage: MemoryStorage, image: Image, model: Model): void {
    for (const [id, { disk }] of model.snapshots) {
      const past = image.openSnapshot(id);
      expect(readAll(past).equals(disk), `snapshot ${id}`).to.equal(true);
      past.close();
    }
    expect(readAll(image).equals(model.disk), 'the disk').to.equal(true);
    image.close();
    const file = files.path('image');
    fs.writeFileSync(file, storage.bytes());
    expectClean(file);
    expectDisk(file, model.disk);
    const listed = (qemuImgJson('info', '--output=json', file) as Listed).snapshots ?? [];
    expect(listed.map(({ id, name }) => [id, name])).to.deep.equal(
      [...model.snapshots].map(([id, { name }]) => [id, name]),
    );
    for (const [id, { disk }] of model.snapshots) {
      // qemu-img shows a snapshot at the disk's size.
      if (disk.length === model.disk.length) expectDisk(file, disk, '-l', `snapshot.id=${id}`);
    }
  }

  for (const [options, size] of [
    ['', 4 * MIB],
    ['compat=0.10', 4 * MIB],
    ['cluster_size=512', MIB],
    ['cluster_size=4k,refcount_bits=8', 2 * MIB],
    ['cluster_size=4k,refcount_bits=64', 2 * MIB],
    ['cluster_size=16k,extended_l2=on', 4 * MIB],
    ['cluster_size=2M', 8 * MIB],
  ] as const) {
    it(`are what they were whatever happens afterwards (${options || 'as made by default'})`, () => {
      const random = new Random();
      const storage = create(options, size);
      const model = new Model(size);
      let image = openWritable(storage);
      const write = (): void => {
        const at = random.below(model.disk.length);
        const bytes = random.bytes(1 + random.below(Math.min(40_000, model.disk.length - at)));
        image.write(bytes, at);
        model.disk.set(bytes, at);
      };
      const one = (): string | undefined => [...model.snapshots.keys()][random.below(model.snapshots.size)];
      for (let round = 0; round < 3; round++) {
        for (let step = 0; step < 25; step++) {
          const kind = random.below(12);
          const id = one();
          if (kind < 6) write();
          else if (kind === 6) {
            const at = random.below(model.disk.length / 65_536) * 65_536;
            image.zero(at, 65_536, { unmap: random.below(2) === 0 });
            model.disk.fill(0, at, at + 65_536);
          } else if (kind < 9) {
            const name = `snap ${round}/${step}`;
            const made = image.createSnapshot(Buffer.from(name));
            expect(made.name).to.equal(name);
            expect(made.diskSize).to.equal(model.disk.length);
            model.snapshots.set(made.id, { name, disk: Buffer.from(model.disk) });
          } else if (id === undefined) continue;
          else if (kind === 9) {
            image.deleteSnapshot(id);
            model.snapshots.delete(id);
          } else if (kind === 10) {
            image.applySnapshot(id);
            model.disk = Buffer.from(model.snapshots.get(id)!.disk);
          } else {
            image.renameSnapshot(id, Buffer.from(`renamed ${step}`));
            model.snapshots.get(id)!.name = `renamed ${step}`;
          }
        }
        judge(storage, image, model);
        image = openWritable(storage);
      }
      image.close();
    });
  }

  it('go both ways between us and qemu-img', () => {
    const storage = create('', 4 * MIB);
    let image = openWritable(storage);
    image.write(Buffer.alloc(200_000, 1), 0);
    image.createSnapshot(Buffer.from('ours'));
    image.write(Buffer.alloc(100_000, 2), 50_000);
    image.close();
    const file = files.path('image');
    fs.writeFileSync(file, storage.bytes());
    qemuImg('snapshot', '-c', 'theirs', file);
    qemuImg('snapshot', '-a', 'ours', file);
    expectClean(file);
    expectDisk(file, Buffer.concat([Buffer.alloc(200_000, 1)], 4 * MIB));
    const again = MemoryStorage.from(fs.readFileSync(file));
    image = openWritable(again);
    expect(image.snapshots().map(({ id, name }) => [id, name])).to.deep.equal([
      ['1', 'ours'],
      ['2', 'theirs'],
    ]);
    image.write(Buffer.alloc(300_000, 3), 100_000);
    image.applySnapshot('2');
    image.deleteSnapshot('1');
    image.close();
    fs.writeFileSync(file, again.bytes());
    expectClean(file);
    const disk = Buffer.alloc(4 * MIB);
    disk.fill(1, 0, 200_000).fill(2, 50_000, 150_000);
    expectDisk(file, disk);
    qemuImg('snapshot', '-d', 'theirs', file);
    expectClean(file);
  });

  it('leave nothing behind when the last is deleted', () => {
    const storage = create('cluster_size=4k', 2 * MIB);
    const image = openWritable(storage);
    const before = storage.allocated();
    image.createSnapshot(Buffer.from('a'));
    image.write(Buffer.alloc(MIB, 1), 0);
    image.createSnapshot(Buffer.from('b'));
    image.zero(0, MIB, { unmap: true });
    image.deleteSnapshot('1');
    image.deleteSnapshot('2');
    image.flush();
    expect(storage.allocated() - before).to.be.lessThan(200_000);
    judge(storage, image, new Model(2 * MIB));
  });

  it('are refused where the format has no room for them', () => {
    const narrow = openWritable(create('refcount_bits=1', MIB));
    expect(() => narrow.createSnapshot(Buffer.from('a'))).to.throw(/1-bit/);
    const two = create('refcount_bits=2', MIB);
    const image = openWritable(two);
    image.write(Buffer.alloc(1000, 1), 0);
    image.createSnapshot(Buffer.from('a'));
    image.createSnapshot(Buffer.from('b'));
    expect(() => image.createSnapshot(Buffer.from('c'))).to.throw(/references/);
    image.write(Buffer.alloc(1000, 2), 500);
    image.close();
    fs.writeFileSync(files.path('image'), two.bytes());
    expectClean(files.path('image'));
  });

  for (const [options, backing] of [
    ['', 0],
    ['compat=0.10,cluster_size=4k', 0],
    ['cluster_size=512', 0],
    ['cluster_size=4k', 3 * MIB],
    ['compat=0.10,cluster_size=4k', 3 * MIB],
    ['cluster_size=16k,extended_l2=on', 3 * MIB],
  ] as const) {
    it(`sizes: what is new reads as zeros (${options || 'as made by default'}, ${backing} bytes of backing)`, () => {
      const random = new Random();
      const base = files.path('base');
      fs.writeFileSync(base, random.bytes(backing));
      const file = files.path('sized');
      fs.rmSync(file, { force: true });
      const chain = backing === 0 ? [] : ['-b', base, '-F', 'raw'];
      qemuImg('create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options]), ...chain, file, String(MIB));
      const storage = MemoryStorage.from(fs.readFileSync(file));
      const images = backing === 0 ? {} : { [base]: { bytes: fs.readFileSync(base), format: 'raw' } };
      const image = openWritable(storage, { images });
      let model = Buffer.alloc(MIB);
      fs.readFileSync(base).copy(model, 0, 0, MIB);
      for (let step = 0; step < 12; step++) {
        const size = step === 5 ? 40 * MIB : 1 + random.below(5 * MIB);
        // QEMU rounds sizes to sectors.
        const next = Buffer.alloc(Math.ceil(size / 512) * 512);
        image.resize(next.length);
        model.copy(next);
        model = next;
        expect(image.size).to.equal(next.length);
        const at = random.below(next.length);
        const bytes = random.bytes(1 + random.below(Math.min(next.length - at, 100_000)));
        image.write(bytes, at);
        model.set(bytes, at);
      }
      expect(readAll(image).equals(model)).to.equal(true);
      image.close();
      fs.writeFileSync(file, storage.bytes());
      expectClean(file);
      expectDisk(file, model);
    });
  }

  it('sizes: a snapshot keeps its own', () => {
    const storage = create('', 4 * MIB);
    const image = openWritable(storage);
    const model = new Model(4 * MIB);
    image.write(Buffer.alloc(MIB, 1), 3 * MIB);
    model.disk.fill(1, 3 * MIB);
    image.createSnapshot(Buffer.from('large'));
    model.snapshots.set('1', { name: 'large', disk: Buffer.from(model.disk) });
    image.resize(MIB);
    model.disk = Buffer.alloc(MIB);
    image.createSnapshot(Buffer.from('small'));
    model.snapshots.set('2', { name: 'small', disk: Buffer.alloc(MIB) });
    image.applySnapshot('1');
    model.disk = Buffer.from(model.snapshots.get('1')!.disk);
    judge(storage, image, model);
    const old = openWritable(create('compat=0.10', MIB));
    old.createSnapshot(Buffer.from('a'));
    expect(() => old.resize(2 * MIB)).to.throw(/version 2/);
  });
});
