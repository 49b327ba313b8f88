/** What a VDI's writer does to the file: in which order, how much at once, and what it makes of what others left. */

import { expect } from 'chai';
import { vdi } from '../../../src/formats/vdi/index.js';
import { build, type Entry, pattern, type SampleOptions } from '../../../src/formats/vdi/samples/build.js';
import type { CheckReport, Repair } from '../../../src/image/check.js';
import type { Image } from '../../../src/image/image.js';
import { SharedImage } from '../../../src/image/shared-image.js';
import { Sharing } from '../../../src/image/sharing.js';
import { drained } from '../../../src/lib/steps.js';
import { Faults } from '../../../src/storage/faults.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import type { Storage } from '../../../src/storage/storage.js';
import { makeImage } from '../../support/creation.js';
import { closedContext, readAll } from '../../support/images.js';
import { outcome } from '../../support/outcome.js';
import { Random } from '../../support/seed.js';
import { leftAfter } from '../../support/steps.js';

const MIB = 1024 * 1024;
const BLOCK = 4096;
const FREE = 2 ** 32 - 1;

function open(storage: Storage, sharing?: Sharing): Image {
  return vdi.open(storage, { ...closedContext(), writable: true, sharing });
}

function sample(entries: readonly Entry[], more: Partial<SampleOptions> = {}): MemoryStorage {
  const size = entries.length * BLOCK;
  return MemoryStorage.from(build({ size, blockSize: BLOCK, entries, ...more }, pattern(size, 5)));
}

function checked(storage: Storage, repair: Repair = 'none'): CheckReport & { readonly told: readonly string[] } {
  const told: string[] = [];
  if (vdi.check === undefined) throw new Error('no check');
  const report = drained(vdi.check(storage, closedContext(), { repair, tell: (finding) => told.push(finding) }));
  return { ...report, told };
}

/** The counter, and the first entries. */
function stored(storage: Storage, entries: number): readonly number[] {
  const head = Buffer.alloc(1024);
  storage.read(head, 0);
  return [head.readUInt32LE(388), ...Array.from({ length: entries }, (_, n) => head.readUInt32LE(512 + 4 * n))];
}

describe('vdi: what a write does', () => {
  /** Every write and flush since the image was made ready. */
  function traced(size: number, action: (image: Image) => void): readonly string[] {
    const journal = new Journal();
    const image = open(journal.record(makeImage(vdi, { size }).storage));
    image.zero(0, 512, { unmap: false });
    const from = journal.entries.length;
    action(image);
    return journal.entries.slice(from).map((entry) => {
      if (entry.kind !== 'write') return entry.kind;
      return `${entry.at === 0 ? 'header' : entry.at < 512 + size / 2 ** 18 ? 'map' : 'data'} ${entry.bytes.length}`;
    });
  }

  it('the counter first, durably; then data and entry, and nothing to wait for', () => {
    const write = (image: Image): void => image.write(Buffer.alloc(4096, 1), 5 * MIB + 512);
    expect(traced(64 * MIB, write)).to.deep.equal(['header 512', 'flush', 'data 4096', 'map 256']);
  });

  it('a large growing write is one write of data and one of the map', () => {
    const write = (image: Image): void => image.write(Buffer.alloc(4 * MIB, 1), 8 * MIB);
    expect(traced(64 * MIB, write)).to.deep.equal(['header 512', 'flush', `data ${4 * MIB}`, 'map 256']);
  });

  it('growing raises the counter in steps: a thousand blocks take a dozen barriers', () => {
    const all = traced(1024 * MIB, (image) => {
      for (let n = 0; n < 1024; n++) image.write(Buffer.alloc(512, 1), n * MIB);
    });
    expect(all.filter((what) => what === 'flush').length).to.be.at.most(12);
    expect(all.filter((what) => what.startsWith('map'))).to.have.length(1024);
  });

  it('a look changes nothing; the first change gives another modification UUID, the same every time', () => {
    const run = (): readonly string[] => {
      const storage = sample([0, 'free', 1]);
      const uuids = (): string => Buffer.from(storage.bytes().subarray(392, 424)).toString('hex');
      const before = uuids();
      const looked = open(storage);
      readAll(looked);
      looked.flush();
      looked.close();
      const after = uuids();
      const image = open(storage);
      image.write(Buffer.alloc(512), 0);
      image.close();
      return [before, after, uuids()];
    };
    const [before = '', looked, written = ''] = run();
    expect(looked).to.equal(before);
    expect(written).to.not.equal(before);
    expect(written.slice(0, 32)).to.equal(before.slice(0, 32));
    expect(run()[2]).to.equal(written);
  });
});

describe('vdi: what others left', () => {
  it('numbers that nothing uses are handed out first, and the counter is true at the end', () => {
    const storage = sample([4, 'free', 0, 'free', 'free', 'free', 'free', 2], { allocated: 7 });
    const disk = readAll(open(storage.copy()));
    const image = open(storage);
    image.write(Buffer.alloc(2 * BLOCK, 1), 3 * BLOCK);
    image.close();
    disk.fill(1, 3 * BLOCK, 5 * BLOCK);
    expect(stored(storage, 8)).to.deep.equal([5, 4, FREE, 0, 1, 3, FREE, FREE, 2]);
    expect(readAll(open(storage)).equals(disk)).to.equal(true);
    expect(checked(storage)).to.include({ corruptions: 0, leaks: 0 });
  });

  it('a counter that is too low is raised before anything is handed out', () => {
    const storage = sample([0, 3, 'free', 'free', 'free', 1], { allocated: 1 });
    expect(checked(storage)).to.include({ corruptions: 2, leaks: 0 });
    const image = open(storage);
    image.write(Buffer.alloc(3 * BLOCK, 1), 2 * BLOCK);
    image.close();
    expect(stored(storage, 6)).to.deep.equal([6, 0, 3, 2, 4, 5, 1]);
    expect(checked(storage)).to.include({ corruptions: 0, leaks: 0 });
  });

  it('a counter that is too low is mended by a full repair only', () => {
    const storage = sample([0, 3, 'free', 'free', 'free', 1], { allocated: 1 });
    const disk = readAll(open(storage.copy()));
    expect(checked(storage, 'leaks')).to.include({ corruptions: 2, corruptionsFixed: 0 });
    expect(checked(storage, 'all')).to.include({ corruptions: 0, corruptionsFixed: 2, leaks: 0 });
    expect(stored(storage, 2)).to.deep.equal([3, 0, 2]);
    expect(readAll(open(storage)).equals(disk)).to.equal(true);
  });

  for (const [name, entry] of [
    ['shares another', 0],
    ['is one there cannot be', 900],
  ] as const) {
    it(`a block that ${name} is read around, told and never written`, () => {
      const storage = sample([0, 1, 'free', 2]);
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(entry);
      storage.write(bytes, 512 + 4);
      const before = storage.bytes();
      const image = open(storage);
      image.read(new Uint8Array(BLOCK), 0);
      expect(outcome(() => image.write(Buffer.alloc(10), 0))).to.equal('corrupt');
      image.close();
      const { corruptions, corruptionsFixed, told } = checked(storage, 'all');
      expect({ corruptions, corruptionsFixed }).to.deep.equal({ corruptions: 1, corruptionsFixed: 0 });
      expect(told.at(-1)).to.include('Nothing is repaired');
      expect(storage.bytes().equals(before)).to.equal(true);
    });
  }

  it('a repair moves blocks down into what is free, with the bytes in front of them', () => {
    const storage = sample(['free', 9, 'free', 1, 'free', 4, 'zero', 6], { allocated: 20, blockExtra: 512 });
    const disk = readAll(open(storage.copy()));
    expect(checked(storage)).to.include({ corruptions: 0, leaks: 16 });
    expect(checked(storage, 'leaks')).to.include({ leaks: 0, leaksFixed: 16 });
    const [counter, ...entries] = stored(storage, 8);
    expect(counter).to.equal(4);
    expect(entries.filter((entry) => entry < 8)).to.have.members([0, 1, 2, 3]);
    expect(readAll(open(storage)).equals(disk)).to.equal(true);
    for (const [block, entry] of entries.entries()) {
      const front = Buffer.alloc(512, block + 1);
      if (entry < 8) storage.read(front, 1024 + entry * (BLOCK + 512));
      expect(front.every((byte) => byte === block + 1)).to.equal(true);
    }
  });

  it('the whole last block is in the file after a clean close', () => {
    const storage = sample(['free', 'free']);
    const image = open(storage);
    image.write(Buffer.alloc(10, 1), BLOCK + 20);
    image.close();
    expect(storage.size()).to.equal(1024 + BLOCK);
  });

  it('a repair that the host interrupts leaves the image sound, wherever it is', () => {
    for (let limit = 1; ; limit++) {
      const storage = sample([7, 'free', 3, 'free', 5, 9, 'free', 'free', 'free', 'free']);
      const disk = readAll(open(storage.copy()));
      const faults = new Faults({ kinds: ['write', 'flush'], at: limit, persistent: true, effect: 'io' });
      const done = outcome(() => checked(faults.inject(storage), 'leaks'));
      expect(checked(storage).corruptions).to.equal(0);
      expect(readAll(open(storage)).equals(disk)).to.equal(true);
      if (done === 'done') break;
      expect(done).to.equal('io');
    }
  });

  it('so does one that is left after any of its steps', () => {
    for (let left = 1, ended = false; !ended; left++) {
      const storage = sample([7, 'free', 3, 'free', 5, 9, 'free', 'free', 'free', 'free']);
      const disk = readAll(open(storage.copy()));
      ended = leftAfter(left, vdi.check?.(storage, closedContext(), { repair: 'leaks', tell: () => {} }) ?? []);
      expect(checked(storage).corruptions).to.equal(0);
      expect(readAll(open(storage)).equals(disk)).to.equal(true);
    }
  });
});

describe('vdi: threads', () => {
  it('hand out no block twice and see each other at once', () => {
    const storage = sample(Array.from({ length: 300 }, () => 'free'));
    const sharing = new Sharing();
    const threads = Array.from({ length: 3 }, () => new SharedImage(open(storage, sharing), sharing));
    const random = new Random();
    const disk = Buffer.alloc(300 * BLOCK);
    for (let n = 0; n < 400; n++) {
      const at = random.below(disk.length - 9000);
      const bytes = random.bytes(1 + random.below(9000));
      threads[n % 3]?.write(bytes, at);
      disk.set(bytes, at);
      const seen = Buffer.alloc(bytes.length);
      threads[(n + 1) % 3]?.read(seen, at);
      if (!seen.equals(bytes)) throw new Error(`step ${n}: the other thread sees something else`);
    }
    // One after the other ends its use, while the rest goes on.
    for (const [n, thread] of threads.entries()) {
      threads.at(-1)?.write(Buffer.alloc(100, n), n * BLOCK);
      disk.fill(n, n * BLOCK, n * BLOCK + 100);
      thread.close();
    }
    expect(checked(storage)).to.include({ corruptions: 0, leaks: 0 });
    expect(readAll(open(storage)).equals(disk)).to.equal(true);
  });

  it('learn a new size, and a map that moved', () => {
    const storage = sample([1, 'free', 0, 2], { mapAt: 1008, dataAt: 1024 });
    const sharing = new Sharing();
    const [one, two] = [open(storage, sharing), open(storage, sharing)].map((each) => new SharedImage(each, sharing));
    const before = readAll(two as Image);
    one?.resize(40 * BLOCK);
    one?.write(Buffer.alloc(BLOCK, 3), 39 * BLOCK);
    expect(two?.size).to.equal(40 * BLOCK);
    const disk = Buffer.concat([before, Buffer.alloc(35 * BLOCK), Buffer.alloc(BLOCK, 3)]);
    expect(readAll(two as Image).equals(disk)).to.equal(true);
    two?.write(Buffer.alloc(BLOCK, 4), 20 * BLOCK);
    two?.close();
    one?.close();
    expect(checked(storage)).to.include({ corruptions: 0, leaks: 0 });
    expect(readAll(open(storage)).equals(disk.fill(4, 20 * BLOCK, 21 * BLOCK))).to.equal(true);
  });
});
