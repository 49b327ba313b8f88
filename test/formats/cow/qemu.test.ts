import fs from 'node:fs';
import { expect } from 'chai';
import { cow } from '../../../src/formats/cow/index.js';
import { QEMU, QEMU_I386 } from '../../../src/formats/cow/layout.js';
import { SampleImage } from '../../../src/formats/cow/sample-image.js';
import { extents, type Image } from '../../../src/image/image.js';
import { SharedImage } from '../../../src/image/shared-image.js';
import { Sharing } from '../../../src/image/sharing.js';
import { drained } from '../../../src/lib/steps.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import type { Storage } from '../../../src/storage/storage.js';
import { makeImage } from '../../support/creation.js';
import { closedContext, openFile, openToWrite, readAll } from '../../support/images.js';
import { scratch } from '../../support/scratch.js';
import { scribble } from '../../support/scribble.js';
import { Random } from '../../support/seed.js';
import { type Abi, backingOf, decode } from './decoder.js';

const MIB = 1024 * 1024;
const SECTOR = 512;

function open(storage: Storage, sharing?: Sharing): Image {
  return cow.open(storage, { ...closedContext(), writable: true, sharing });
}

describe('cow of QEMU', () => {
  const directory = scratch();
  const random = new Random();

  for (const [abi, layout] of [
    ['LP64', QEMU],
    ['i386', QEMU_I386],
  ] as const) {
    it(`${abi}: a second decoder reads what was written, round after round`, () => {
      const disk = Buffer.alloc(700 * SECTOR);
      const storage = MemoryStorage.from(new SampleImage({ layout, size: disk.length }).build());
      rounds(disk, abi, { open: () => open(storage), bytes: () => storage.bytes() });
    });

    it(`${abi}: above a backing file that is shorter`, () => {
      const base = random.bytes(400 * SECTOR + 77);
      const path = directory.path(`${abi}.cow`);
      fs.writeFileSync(directory.path('base'), base);
      const disk = Buffer.alloc(700 * SECTOR);
      base.copy(disk);
      fs.writeFileSync(path, new SampleImage({ layout, size: disk.length, backing: 'base' }).build());
      rounds(disk, abi, { open: () => openToWrite(path), bytes: () => fs.readFileSync(path), base });
    });
  }

  interface Rounds {
    open(): Image;
    bytes(): Buffer;
    readonly base?: Buffer;
  }

  function rounds(disk: Buffer, abi: Abi, { open: opened, bytes, base }: Rounds): void {
    for (let round = 0; round < 4; round++) {
      const image = opened();
      expect(readAll(image).equals(disk)).to.equal(true);
      scribble([image], disk, 80, random);
      expect(readAll(image).equals(disk)).to.equal(true);
      image.close();
      expect(decode(bytes(), abi, base).equals(disk)).to.equal(true);
    }
  }

  it('is made in the layout of 64-bit hosts, and ends with its bitmap', () => {
    const backing = { name: 'base.raw', format: 'raw', image: undefined, modified: 1_234_567_890 };
    const bytes = makeImage(cow, { size: 1000 * SECTOR, backing }).storage.bytes();
    expect(bytes.length).to.equal(1056 + 125);
    expect(decode(bytes, 'LP64').equals(Buffer.alloc(1000 * SECTOR))).to.equal(true);
    expect(backingOf(bytes)).to.deep.equal({ name: 'base.raw', modified: 1_234_567_890 });
    const long = { ...backing, name: 'n'.repeat(1024) };
    expect(() => makeImage(cow, { backing: long })).to.throw(/longer than 1023/);
  });

  it('does not mind the date of its backing file: QEMU never looked', () => {
    const path = directory.path('dated.cow');
    fs.writeFileSync(directory.path('base'), Buffer.alloc(MIB, 7));
    fs.writeFileSync(path, new SampleImage({ layout: QEMU, size: MIB, backing: 'base', modified: 1 }).build());
    const image = openFile(path);
    expect(readAll(image).equals(Buffer.alloc(MIB, 7))).to.equal(true);
    expect(image.info).to.deep.include({ backing: { name: 'base' } });
    expect(image.info.specific).to.deep.equal({ type: 'cow', data: { layout: 'qemu' } });
    image.close();
  });

  it('is read in large pieces, however the bitmap is cut: 300 MiB across three of its pieces', () => {
    const size = 300 * MIB;
    const storage = makeImage(cow, { size }).storage;
    const image = open(storage);
    const at = 128 * MIB - 3 * SECTOR;
    const bytes = random.bytes(7 * SECTOR);
    image.write(bytes, at);
    image.write(Uint8Array.of(1), size - 1);
    image.flush();
    const found = Buffer.alloc(bytes.length);
    const journal = new Journal();
    const again = cow.open(journal.record(storage), closedContext());
    again.read(found, at);
    expect(found.equals(bytes)).to.equal(true);
    expect([...extents(again)].map(({ start, length, data }) => [start, length, data])).to.deep.equal([
      [0, at, false],
      [at, 7 * SECTOR, true],
      [at + 7 * SECTOR, size - SECTOR - at - 7 * SECTOR, false],
      [size - SECTOR, SECTOR, true],
    ]);
    // A map passes holes of the bitmap at once; a read asks for no more than it needs.
    const rest = at + 7 * SECTOR;
    expect(image.extent(rest, size - rest).length).to.be.greaterThan(128 * MIB);
  });

  it('writes new sectors as data, a barrier where something is replaced, and bits', () => {
    const journal = new Journal();
    const { storage } = makeImage(cow, { size: MIB });
    const image = open(journal.record(storage));
    image.write(new Uint8Array(8 * SECTOR).fill(1), 0);
    // Zeros before, zeros on the host: data and bits may come in any order.
    expect(journal.entries.map(({ kind }) => kind)).to.deep.equal(['write', 'write']);
    image.close();
    const again = open(journal.record(storage));
    const before = journal.entries.length;
    again.write(new Uint8Array(SECTOR).fill(2), 100 * SECTOR);
    again.write(new Uint8Array(SECTOR).fill(2), 4 * SECTOR);
    again.flush();
    expect(journal.entries.slice(before).map(({ kind }) => kind)).to.deep.equal(['write', 'write', 'write', 'flush']);
  });

  it('gives discarded sectors back to the host', () => {
    const storage = makeImage(cow, { size: MIB }).storage;
    const image = open(storage);
    image.write(random.bytes(MIB), 0);
    const before = image.hostBytes();
    image.zero(0, MIB / 2, { unmap: true });
    expect(image.hostBytes()).to.be.at.most(before - MIB / 2 + 8192);
    expect(
      readAll(image)
        .subarray(0, MIB / 2)
        .equals(Buffer.alloc(MIB / 2)),
    ).to.equal(true);
  });

  it('keeps its size', () => {
    const image = open(makeImage(cow, { size: MIB }).storage);
    for (const size of [MIB / 2, 2 * MIB]) expect(() => image.resize(size)).to.throw(/a COW image keeps its size/);
    image.resize(MIB);
    image.write(Uint8Array.of(1), 0);
  });

  it('two threads see the same disk', () => {
    const sharing = new Sharing();
    const { storage } = makeImage(cow, { size: 900 * SECTOR });
    const threads = [0, 1, 2].map(() => new SharedImage(open(storage, sharing), sharing));
    const disk = Buffer.alloc(900 * SECTOR);
    scribble(threads, disk, 400, random);
    for (const thread of threads) expect(readAll(thread).equals(disk)).to.equal(true);
    for (const thread of threads) thread.close();
    expect(decode(storage.bytes(), 'LP64').equals(disk)).to.equal(true);
  });

  it('check counts sectors, and sees bits behind the last one', () => {
    const image = new SampleImage({ layout: QEMU, size: 300 * SECTOR }).write(0, new Uint8Array(3 * SECTOR));
    const bytes = image.write(9 * SECTOR, new Uint8Array(SECTOR)).build();
    const told: string[] = [];
    const options = { repair: 'none', tell: (line: string) => told.push(line) } as const;
    const look = () => cow.check && drained(cow.check(MemoryStorage.from(bytes), closedContext(), options));
    expect(look()?.units).to.deep.equal({ total: 300, allocated: 4, fragmented: 1, compressed: 0 });
    expect(told).to.deep.equal([]);
    bytes.writeUInt8(2 ** 7, 1056 + 37);
    expect(look()?.corruptions).to.equal(1);
    expect(told.join()).to.match(/behind the last sector/);
  });
});
