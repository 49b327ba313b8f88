import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { putEntry } from '../../../src/formats/qcow2/encode.js';
import { SampleImage } from '../../../src/formats/qcow2/samples/image.js';
import { ImgfsError, type Reason } from '../../../src/lib/errors.js';
import { Faults } from '../../../src/storage/faults.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { needsTool } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { openWritable } from '../../support/written.js';

function reasonOf(action: () => unknown): Reason | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof ImgfsError) return error.reason;
    throw error;
  }
}

const SIZE = 1024 * 1024;

interface Tables {
  readonly l1At: number;
  readonly l2At: number;
  readonly refcountsAt: number;
}

interface Forgery {
  readonly version?: 2 | 3;
  readonly copied?: boolean;
}

/** Nothing has changed but the mark "corrupt". */
function expectOnlyMarked(before: Buffer, after: Buffer): void {
  const expected = Buffer.from(before);
  expected.writeUInt8(2, 79);
  expect(after.equals(expected)).to.equal(true);
}

describe('qcow2, not written', () => {
  it('refuses an image that is marked corrupt, before anything is changed', () => {
    const storage = MemoryStorage.from(new SampleImage({ size: SIZE, corrupt: true }).build());
    expect(reasonOf(() => openWritable(storage))).to.equal('corrupt');
  });

  /** An image whose first cluster is said to lie at `target`, by an entry that may be overwritten in place or not. */
  function forged(target: (at: Tables) => number, { version = 3, copied = true }: Forgery = {}): Buffer {
    const recipe = new SampleImage({ size: SIZE, version }).write(0, Buffer.alloc(131_072, 1));
    const bytes = Buffer.from(recipe.build());
    const l1At = Number(bytes.readBigUInt64BE(40));
    const l2At = Number(bytes.readBigUInt64BE(l1At) % 2n ** 56n);
    putEntry(bytes, l2At, { offset: target({ l1At, l2At, refcountsAt: Number(bytes.readBigUInt64BE(48)) }), copied });
    return bytes;
  }

  // The header itself cannot be named: offset 0 means no place at all.
  const targets: readonly (readonly [string, (at: Tables) => number])[] = [
    ['the L1 table', ({ l1At }) => l1At],
    ['the L2 table', ({ l2At }) => l2At],
    ['the refcount table', ({ refcountsAt }) => refcountsAt],
  ];
  for (const [name, target] of targets) {
    for (const version of [3, 2] as const) {
      it(`never lets guest data land on ${name}, and writes nothing any more afterwards (version ${version})`, () => {
        const bytes = forged(target, { version });
        const journal = new Journal();
        const storage = MemoryStorage.from(bytes);
        const image = openWritable(journal.record(storage));
        expect(reasonOf(() => image.write(Buffer.alloc(4096, 2), 0))).to.equal('corrupt');
        expect(reasonOf(() => image.write(Buffer.alloc(4096, 2), 65_536))).to.equal('corrupt');
        expect(reasonOf(() => image.flush())).to.equal('corrupt');
        image.read(Buffer.alloc(4096), 65_536);
        image.close();
        // Version 2 has no way to say it to the next writer.
        if (version === 2) expect(journal.entries).to.deep.equal([]);
        else expectOnlyMarked(bytes, storage.bytes());
      });
    }
  }

  it('marks an image whose tables lead nowhere when a write meets them, never when it is only read', () => {
    const bytes = forged(({ l2At }) => l2At + 512, { copied: false });
    const storage = MemoryStorage.from(bytes);
    const image = openWritable(storage);
    expect(reasonOf(() => image.read(Buffer.alloc(4096), 0))).to.equal('corrupt');
    image.write(Buffer.alloc(4096, 2), 65_536);
    image.flush();
    expect(storage.bytes().readUInt8(79)).to.equal(0);
    expect(reasonOf(() => image.zero(0, 65_536, { unmap: true }))).to.equal('corrupt');
    expect(storage.bytes().readUInt8(79)).to.equal(2);
    expect(reasonOf(() => image.write(Buffer.alloc(4096, 2), 65_536))).to.equal('corrupt');
    image.close();
    expect(reasonOf(() => openWritable(storage))).to.equal('corrupt');
    const looked = openWritable(storage, {}, { writable: false });
    looked.read(Buffer.alloc(4096), 65_536);
    looked.close();
  });

  it('marks nothing because the host fails', () => {
    for (const kinds of [['read'], ['write'], ['flush']] as const) {
      const storage = MemoryStorage.from(new SampleImage({ size: SIZE }).write(0, Buffer.alloc(131_072, 1)).build());
      const faults = new Faults({ at: 1, persistent: true, effect: 'io', kinds });
      const image = faults.suspended(() => openWritable(faults.inject(storage)));
      expect(reasonOf(() => image.write(Buffer.alloc(4096, 2), 500_000))).to.equal('io');
      expect(faults.fired).to.be.above(0);
      faults.lift();
      reasonOf(() => image.close());
      expect(storage.bytes().readUInt8(79)).to.equal(0);
    }
  });

  describe('beside QEMU', () => {
    needsTool('qemu-img', 'qemu-io');
    const files = scratch();

    it('marks the image as QEMU does, which then does not write it either', () => {
      for (const [name, target] of targets) {
        const [ours, theirs] = [files.path('ours'), files.path('theirs')];
        const storage = MemoryStorage.from(forged(target));
        fs.writeFileSync(theirs, storage.bytes());
        const image = openWritable(storage);
        expect(reasonOf(() => image.write(Buffer.alloc(4096, 2), 0))).to.equal('corrupt');
        image.close();
        fs.writeFileSync(ours, storage.bytes());
        const write = (file: string): string => {
          const ran = spawnSync('qemu-io', ['-f', 'qcow2', '-c', 'write 0 4k', file], { encoding: 'utf8' });
          return ran.stdout + ran.stderr;
        };
        expect(write(theirs)).to.include('corrupt');
        const marks = [ours, theirs].map((file) => fs.readFileSync(file).readUInt8(79));
        expect(marks, name).to.deep.equal([2, 2]);
        expect(write(ours)).to.include('Image is corrupt; cannot be opened read/write');
      }
    });
  });

  it('leaves no bitmap that claims to be valid, and keeps its clusters', () => {
    const bitmaps = [{ name: 'b', granularity: 65_536, inUse: false, auto: true }];
    const storage = MemoryStorage.from(new SampleImage({ size: SIZE, bitmaps }).build());
    const image = openWritable(storage);
    const claims = (): unknown => image.info.specific?.data.bitmaps;
    expect(claims()).to.deep.equal([{ name: 'b', granularity: 65_536, flags: ['auto'] }]);
    image.write(Buffer.from('x'), 0);
    expect(claims()).to.deep.equal([{ name: 'b', granularity: 65_536, flags: ['in-use', 'auto'] }]);
    image.close();
  });

  it('clears autoclear bits nobody knows before the first byte is written', () => {
    const bytes = Buffer.from(new SampleImage({ size: SIZE }).build());
    bytes.writeUInt32BE(0x80, 88);
    const journal = new Journal();
    const storage = MemoryStorage.from(bytes);
    const image = openWritable(journal.record(storage));
    image.read(Buffer.alloc(512), 0);
    expect(journal.entries).to.deep.equal([]);
    image.write(Buffer.from('x'), 0);
    expect(journal.entries.slice(0, 2).map(({ kind }) => kind)).to.deep.equal(['write', 'flush']);
    expect(storage.bytes().readUInt32BE(88)).to.equal(0);
    image.close();
  });
});
