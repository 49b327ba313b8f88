import { expect } from 'chai';
import { readPadded, readTable, type Storage } from '../../src/storage/storage.js';
import { skipBecause } from '../support/scratch.js';
import { Random } from '../support/seed.js';
import { implementations } from './implementations.js';

const SIZE = 3 * 4096 + 512;

function all(storage: Storage): Buffer {
  const bytes = Buffer.alloc(storage.size());
  expect(storage.read(bytes, 0)).to.equal(bytes.length);
  return bytes;
}

for (const implementation of implementations) {
  describe(`storage: ${implementation.name}`, () => {
    const random = new Random(1);
    const content = random.bytes(SIZE);
    const within = (body: (storage: Storage) => void): void => implementation.with(content, body);

    before(function () {
      skipBecause(this, implementation.unavailable);
    });

    it('tells its size', () => within((storage) => expect(storage.size()).to.equal(SIZE)));

    it('reads at every alignment', () =>
      within((storage) => {
        for (let trial = 0; trial < 300; trial++) {
          const at = random.below(SIZE);
          const into = Buffer.alloc(random.below(SIZE - at) + 1);
          expect(storage.read(into, at)).to.equal(into.length);
          expect(into.equals(content.subarray(at, at + into.length))).to.equal(true);
        }
      }));

    it('reads short only at its end, and nothing past it', () =>
      within((storage) => {
        const into = Buffer.alloc(1024, 0x55);
        expect(storage.read(into, SIZE - 100)).to.equal(100);
        expect(into.subarray(0, 100).equals(content.subarray(SIZE - 100))).to.equal(true);
        expect(into.subarray(100).equals(Buffer.alloc(924, 0x55))).to.equal(true);
        expect(storage.read(into, SIZE)).to.equal(0);
        expect(storage.read(into, SIZE + 5000)).to.equal(0);
        expect(storage.read(Buffer.alloc(0), 7)).to.equal(0);
      }));

    it('pads data with zeros past its end, and refuses a table there', () =>
      within((storage) => {
        const into = Buffer.alloc(200, 0x55);
        readPadded(storage, into, SIZE - 100);
        expect(into.subarray(100).equals(Buffer.alloc(100))).to.equal(true);
        expect(() => readTable(storage, into, SIZE - 100, 'table')).to.throw(/ends inside its table/);
      }));

    it('reads back what was written, and nothing else changes', () =>
      within((storage) => {
        const model = Buffer.from(content);
        for (let trial = 0; trial < 100; trial++) {
          const at = random.below(SIZE);
          const bytes = random.bytes(random.below(Math.min(SIZE - at, 5000)) + 1);
          storage.write(bytes, at);
          bytes.copy(model, at);
        }
        storage.flush();
        expect(all(storage).equals(model)).to.equal(true);
      }));

    it('ignores empty writes, wherever they are', () =>
      within((storage) => {
        storage.write(Buffer.alloc(0), SIZE);
        if (!implementation.fixedSize) storage.write(Buffer.alloc(0), SIZE + 10_000);
        expect(storage.size()).to.equal(SIZE);
      }));

    it('zeroes what is discarded, and keeps its length', () =>
      within((storage) => {
        const model = Buffer.from(content);
        storage.discard(512, 4096);
        model.fill(0, 512, 512 + 4096);
        storage.discard(SIZE - 512, 10_000);
        model.fill(0, SIZE - 512);
        storage.discard(100, 0);
        expect(storage.size()).to.equal(SIZE);
        expect(all(storage).equals(model)).to.equal(true);
      }));

    it('sets space aside, and changes no byte', () =>
      within((storage) => {
        storage.discard(0, 8192);
        const before = all(storage);
        storage.allocate(0, 8192);
        storage.allocate(700, 3000);
        storage.allocate(SIZE, 0);
        expect(storage.size()).to.equal(SIZE);
        expect(all(storage).equals(before)).to.equal(true);
        expect(storage.allocated()).to.be.at.least(8192);
      }));

    it('tiles itself with extents, and its holes read as zeros', () =>
      within((storage) => {
        storage.discard(4096, 4096);
        const bytes = all(storage);
        let at = 0;
        while (at < SIZE) {
          const run = storage.extent(at);
          expect(run.length).to.be.greaterThan(0);
          const part = bytes.subarray(at, at + run.length);
          if (!run.data) expect(part.every((byte) => byte === 0)).to.equal(true);
          at += run.length;
        }
        expect(at).to.equal(SIZE);
      }));

    it('closes twice', () =>
      within((storage) => {
        storage.close();
        storage.close();
      }));

    if (implementation.fixedSize) {
      it('refuses to grow', () =>
        within((storage) => {
          expect(() => storage.resize(SIZE * 2)).to.throw();
          expect(() => storage.allocate(SIZE - 50, 100)).to.throw();
          expect(() => storage.write(Buffer.alloc(100), SIZE - 50)).to.throw();
        }));
      return;
    }

    it('grows by writing past its end; the gap reads as zeros', () =>
      within((storage) => {
        storage.write(Buffer.from('end'), SIZE + 9000);
        expect(storage.size()).to.equal(SIZE + 9003);
        const bytes = all(storage);
        expect(bytes.subarray(0, SIZE).equals(content)).to.equal(true);
        expect(bytes.subarray(SIZE, SIZE + 9000).every((byte) => byte === 0)).to.equal(true);
        expect(bytes.toString('latin1', SIZE + 9000)).to.equal('end');
      }));

    it('grows by setting space aside behind its end', () =>
      within((storage) => {
        const had = storage.allocated();
        storage.allocate(SIZE + 1000, 100_000);
        expect(storage.size()).to.equal(SIZE + 101_000);
        expect(storage.allocated() - had).to.be.at.least(96_000);
        const bytes = all(storage);
        expect(bytes.subarray(0, SIZE).equals(content)).to.equal(true);
        expect(bytes.subarray(SIZE).every((byte) => byte === 0)).to.equal(true);
      }));

    it('forgets what it was cut down from', () =>
      within((storage) => {
        storage.resize(1001);
        expect(storage.size()).to.equal(1001);
        storage.resize(SIZE);
        const bytes = all(storage);
        expect(bytes.subarray(0, 1001).equals(content.subarray(0, 1001))).to.equal(true);
        expect(bytes.subarray(1001).every((byte) => byte === 0)).to.equal(true);
      }));

    it('works past 4 GiB', () =>
      within((storage) => {
        const far = 5 * 2 ** 30 + 123;
        storage.write(Buffer.from('far'), far);
        expect(storage.size()).to.equal(far + 3);
        const into = Buffer.alloc(7, 1);
        expect(storage.read(into, far - 2)).to.equal(5);
        expect(into.toString('latin1', 0, 5)).to.equal('\0\0far');
        storage.discard(far, 2);
        storage.read(into, far);
        expect(into.toString('latin1', 0, 3)).to.equal('\0\0r');
        let runs = 0;
        for (let at = 0; at < far + 3; at += storage.extent(at).length) runs++;
        expect(runs).to.be.lessThan(10);
        expect(storage.allocated()).to.be.lessThan(2 ** 20);
      }));
  });
}
