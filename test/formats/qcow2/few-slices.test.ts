/**
 * Few pieces of L2 tables in memory: they come and go while entries wait for their data. And a new image while it is
 * filled: its tables wait to be written. Nobody can tell.
 */
import fs from 'node:fs';
import { expect } from 'chai';
import { DEFAULT_LIMITS } from '../../../src/image/limits.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { needsTool, qemuImg } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';
import { expectClean, expectDisk, openWritable } from '../../support/written.js';

const KIB = 1024;
const MIB = 1024 * KIB;

/** With how many cached pieces of tables each is filled. */
const CACHED = [2, 3, 1000];

const VARIANTS = ['cluster_size=4k', 'compat=0.10,cluster_size=512', 'extended_l2=on,cluster_size=16k'] as const;

describe('qcow2: tables that come and go', () => {
  needsTool('qemu-img');
  const files = scratch();

  const made = (options: string, size: number): MemoryStorage => {
    const file = files.path('image');
    fs.rmSync(file, { force: true });
    qemuImg('create', '-q', '-f', 'qcow2', '-o', options, file, String(size));
    return MemoryStorage.from(fs.readFileSync(file));
  };
  const saved = (storage: MemoryStorage): string => {
    fs.writeFileSync(files.path('image'), storage.bytes());
    return files.path('image');
  };

  const run = (options: string, cached: number, filling: boolean): void => {
    const size = (options.includes('512') ? 2 : 24) * MIB;
    const random = new Random();
    const storage = made(options, size);
    const piece = Number(/cluster_size=(\d+)/.exec(options)?.[1]) * (options.includes('512') ? 1 : KIB);
    const limits = { ...DEFAULT_LIMITS, cacheBytes: cached * piece };
    const image = openWritable(storage, {}, { filling, limits });
    const model = Buffer.alloc(size);
    let snapshot = Buffer.alloc(0);
    for (let step = 0; step < 300; step++) {
      const at = random.below(size);
      const part = model.subarray(at, at + 1 + random.below(64 * KIB));
      const kind = random.below(20);
      if (kind < 14) {
        part.set(random.bytes(part.length));
        image.write(part, at);
      } else if (kind < 17) {
        part.fill(0);
        image.zero(at, part.length, { unmap: kind === 16 });
      } else image.flush();
      if (step === 150) {
        image.createSnapshot(Buffer.from('halfway'));
        snapshot = Buffer.from(model);
      }
      const found = Buffer.alloc(part.length);
      image.read(found, at);
      expect(found.equals(part), `step ${step}`).to.equal(true);
    }
    image.close();
    const file = saved(storage);
    expectClean(file);
    expectDisk(file, model);
    expectDisk(file, snapshot, '-l', 'halfway');
  };

  for (const options of VARIANTS) {
    for (const cached of CACHED) {
      for (const filling of [true, false]) {
        const where = filling ? 'while it is filled' : 'in an image';
        it(`written at random ${where}, read, zeroed, flushed, a snapshot taken (${options}, ${cached} pieces)`, () =>
          run(options, cached, filling));
      }
    }
  }

  it('are written once while an image is filled, not with every cluster', () => {
    const storage = made('cluster_size=4k', 8 * MIB);
    const journal = new Journal();
    const image = openWritable(journal.record(storage), {}, { filling: true });
    const disk = Buffer.alloc(8 * MIB);
    // Every second cluster: 256 of each of 4 tables.
    for (let at = 0; at < disk.length; at += 8 * KIB) {
      image.write(disk.fill(`${at} `, at, at + 4 * KIB).subarray(at, at + 4 * KIB), at);
    }
    image.close();
    const writes = journal.entries.filter(({ kind }) => kind === 'write').length;
    // Tables, L1 entries and refcounts beside the data.
    expect(writes - 1024).to.be.within(4, 32);
    const file = saved(storage);
    expectClean(file);
    expectDisk(file, disk);
  });
});
