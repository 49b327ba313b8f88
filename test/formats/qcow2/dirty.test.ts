import fs from 'node:fs';
import { expect } from 'chai';
import { SampleImage, type SampleOptions } from '../../../src/formats/qcow2/samples/image.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { FileStorage } from '../../../src/storage/file.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { countedLazily, data } from '../../crash/starts.js';
import { readAll } from '../../support/images.js';
import { needsTool, qemuImg } from '../../support/qemu.js';
import { QemuSession } from '../../support/qemu-session.js';
import { scratch } from '../../support/scratch.js';
import { expectClean, expectDisk, openWritable } from '../../support/written.js';

const SIZE = 256 * 1024;
const FLAGS_AT = 79;

/** An image that a crashed writer left, with a snapshot that shares most of it. */
function left(options: Partial<SampleOptions> = {}): MemoryStorage {
  const recipe = new SampleImage({ size: SIZE, clusterBits: 12, dirty: true, lazyRefcounts: true, ...options });
  data(recipe, 0, 20);
  recipe.snapshot('old');
  data(recipe, 3, 5, 0xbef0_0001);
  return MemoryStorage.from(countedLazily(Buffer.from(recipe.build())));
}

function reasonOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return error instanceof ImgfsError ? error.reason : String(error);
  }
}

describe('qcow2: images whose last writer did not finish', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const files = scratch();

  it('are not changed by looking, and say that they will be repaired', () => {
    const storage = left();
    const journal = new Journal();
    const said: string[] = [];
    const image = openWritable(journal.record(storage), {}, { warn: (message) => said.push(message) });
    readAll(image);
    readAll(image.openSnapshot('1'));
    image.publish();
    image.close();
    expect(journal.entries.filter(({ kind }) => kind !== 'flush')).to.deep.equal([]);
    expect(said).to.deep.equal(['memory: its last writer did not finish; it is repaired before its first change']);
    openWritable(storage, {}, { writable: false, warn: (message) => said.push(message) }).close();
    expect(said).to.have.length(1);
  });

  for (const change of ['write', 'zero', 'resize', 'snapshot'] as const) {
    it(`are repaired before the first change, a ${change}`, () => {
      const bitmaps = [{ name: 'b', granularity: 65_536, inUse: false, auto: true }];
      const storage = left({ bitmaps });
      const parts: number[] = [];
      const image = openWritable(storage, {}, { progress: (part) => parts.push(part) });
      const [disk, past] = [readAll(image), readAll(image.openSnapshot('1'))];
      expect(image.info.dirty).to.equal(true);
      if (change === 'write') image.write(Buffer.alloc(512, 7), 0);
      else if (change === 'zero') image.zero(0, 512, { unmap: false });
      else if (change === 'resize') image.resize(SIZE * 2);
      else image.createSnapshot(Buffer.from('new'));
      expect(image.info.dirty).to.equal(false);
      expect(parts.at(-1)).to.equal(1);
      expect(parts.every((part) => part >= 0 && part <= 1)).to.equal(true);
      if (change === 'write' || change === 'zero') disk.fill(change === 'write' ? 7 : 0, 0, 512);
      expect(readAll(image).subarray(0, SIZE).equals(disk)).to.equal(true);
      expect(readAll(image.openSnapshot('1')).equals(past)).to.equal(true);
      const { bitmaps: listed, 'lazy-refcounts': lazy } = image.info.specific?.data ?? {};
      expect(listed).to.deep.equal([{ flags: ['in-use', 'auto'], name: 'b', granularity: 65_536 }]);
      expect(lazy).to.equal(true);
      image.close();
      const file = files.path('disk');
      fs.writeFileSync(file, storage.bytes());
      expectClean(file);
      if (change !== 'resize') expectDisk(file, disk);
    });
  }

  it('stay as they are where a refcount cannot be stored', () => {
    const recipe = new SampleImage({ size: SIZE, clusterBits: 12, dirty: true, refcountBits: 1 });
    data(recipe, 0, 4);
    const bytes = Buffer.from(recipe.build());
    const l2At = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) % 2n ** 56n);
    // Two guest clusters share one on the host: a bit cannot count to 2.
    bytes.writeBigUInt64BE(bytes.readBigUInt64BE(l2At), l2At + 8);
    const storage = MemoryStorage.from(bytes);
    const image = openWritable(storage);
    expect(reasonOf(() => image.write(Buffer.alloc(512), 0))).to.equal('corrupt');
    expect(image.info.dirty).to.equal(true);
    image.close();
    expect(storage.bytes().readUInt8(FLAGS_AT)).to.equal(1);
  });

  it('are not written where they cannot be repaired, which is found once', () => {
    const storage = left();
    const bytes = storage.bytes();
    // The first L2 table lies beyond the end of the file.
    const l1At = Number(bytes.readBigUInt64BE(40));
    bytes.writeBigUInt64BE(2n ** 40n, l1At);
    storage.write(bytes, 0);
    let reads = 0;
    const counting = new Proxy(storage, {
      get(target, key) {
        if (key === 'read') reads++;
        const value: unknown = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const image = openWritable(counting);
    const before = reads;
    expect(reasonOf(() => image.write(Buffer.alloc(512), 0))).to.equal('corrupt');
    const tried = reads - before;
    expect(reasonOf(() => image.write(Buffer.alloc(512), 0))).to.equal('corrupt');
    expect(reads - before - tried).to.equal(0);
    image.close();
    expect(storage.bytes().readUInt8(FLAGS_AT) % 2).to.equal(1);
  });

  it('are made by QEMU where it is killed, and end sound', async () => {
    for (const options of [
      'lazy_refcounts=on',
      'lazy_refcounts=on,cluster_size=512',
      'lazy_refcounts=on,extended_l2=on',
    ]) {
      const file = files.path('killed');
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, file, '8M');
      qemuImg('snapshot', '-c', 'before', file);
      const session = await QemuSession.open('-f', 'qcow2', file);
      await session.do('write -P 5 64k 3M', 'flush');
      await session.kill();
      expect(fs.readFileSync(file).readUInt8(FLAGS_AT) % 2, options).to.equal(1);
      const fd = fs.openSync(file, 'r+');
      const size = fs.fstatSync(fd).size;
      const image = openWritable(new FileStorage({ fd, name: file, size, writable: true }, () => fs.closeSync(fd)));
      const disk = readAll(image);
      expect(disk.subarray(65_536, 65_536 + 3 * 2 ** 20).every((byte) => byte === 5)).to.equal(true);
      image.write(Buffer.alloc(70_000, 9), 100_000);
      disk.fill(9, 100_000, 170_000);
      image.close();
      expectClean(file);
      expectDisk(file, disk);
      fs.rmSync(file);
    }
  });
});
