import { expect } from 'chai';
import { ImgfsError } from '../../src/lib/errors.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { SliceStorage } from '../../src/storage/slice.js';
import { Random } from '../support/seed.js';

describe('memory storage', () => {
  it('shares pages with its copies until one of them writes', () => {
    const random = new Random(2);
    const models = [random.bytes(40_000)];
    const storages = [MemoryStorage.from(models[0]!)];
    for (let trial = 0; trial < 400; trial++) {
      const from = random.below(storages.length);
      if (storages.length < 12 && random.below(20) === 0) {
        storages.push(storages[from]!.copy());
        models.push(Buffer.from(models[from]!));
      }
      const at = random.below(39_000);
      const bytes = random.bytes(random.below(1000) + 1);
      if (random.below(4) === 0) {
        storages[from]!.discard(at, bytes.length);
        models[from]!.fill(0, at, at + bytes.length);
      } else {
        storages[from]!.write(bytes, at);
        bytes.copy(models[from]!, at);
      }
    }
    expect(storages.length).to.be.greaterThan(5);
    for (const [n, storage] of storages.entries()) expect(storage.bytes().equals(models[n]!)).to.equal(true);
  });

  it('has one fingerprint per content, however it came about', () => {
    const random = new Random(4);
    const bytes = random.bytes(30_000);
    const whole = MemoryStorage.from(bytes);
    const pieces = new MemoryStorage();
    for (let at = 25_000; at >= 0; at -= 5000) pieces.write(bytes.subarray(at, at + 5000), at);
    const copy = whole.copy();
    expect([pieces.fingerprint(), copy.fingerprint()]).to.deep.equal([whole.fingerprint(), whole.fingerprint()]);
    copy.write(Buffer.from([bytes[12_345]! ^ 1]), 12_345);
    expect(copy.fingerprint()).to.not.equal(whole.fingerprint());
    copy.write(bytes.subarray(12_345, 12_346), 12_345);
    expect(copy.fingerprint()).to.equal(whole.fingerprint());
    whole.write(new Uint8Array(8192), 8192);
    pieces.discard(8192, 8192);
    expect(pieces.fingerprint()).to.equal(whole.fingerprint());
    pieces.resize(30_001);
    expect(pieces.fingerprint()).to.not.equal(whole.fingerprint());
  });

  it('keeps a copy as it was when the original shrinks and grows again', () => {
    const original = MemoryStorage.from(Buffer.alloc(10_000, 7));
    const copy = original.copy();
    original.resize(5000);
    original.resize(10_000);
    expect(copy.bytes().every((byte) => byte === 7)).to.equal(true);
    expect(
      original
        .bytes()
        .subarray(5000)
        .every((byte) => byte === 0),
    ).to.equal(true);
  });

  it('finds the ends of an enormous hole at once', () => {
    const storage = new MemoryStorage('sparse', 2 ** 52);
    storage.write(Buffer.from('x'), 2 ** 51);
    const started = performance.now();
    expect(storage.extent(10)).to.deep.equal({ data: false, length: 2 ** 51 - 10 });
    expect(storage.extent(2 ** 51 + 4096)).to.deep.equal({ data: false, length: 2 ** 52 - 2 ** 51 - 4096 });
    expect(performance.now() - started).to.be.lessThan(500);
  });

  it('refuses impossible sizes', () => {
    for (const size of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expect(() => new MemoryStorage().resize(size)).to.throw(ImgfsError, 'bad size');
    }
  });
});

describe('slice storage', () => {
  const parent = MemoryStorage.from(Buffer.from('0123456789'));

  it('never reaches outside its window', () => {
    const slice = new SliceStorage(parent, 2, 4);
    const into = Buffer.alloc(10, 0x2e);
    expect(slice.read(into, 0)).to.equal(4);
    expect(into.toString()).to.equal('2345......');
    expect(slice.read(into, 4)).to.equal(0);
    for (const at of [-1, Number.NaN]) {
      expect(() => slice.read(into, at)).to.throw(RangeError);
      expect(() => slice.write(Buffer.from('x'), at)).to.throw(ImgfsError);
    }
    expect(() => slice.write(Buffer.from('xx'), 3)).to.throw(ImgfsError, 'outside the range');
    expect(() => slice.resize()).to.throw(ImgfsError);
    expect(parent.bytes().toString()).to.equal('0123456789');
  });

  it('ends early where its parent does', () => {
    const slice = new SliceStorage(parent, 8, 100);
    expect(slice.size()).to.equal(100);
    expect(slice.read(Buffer.alloc(100), 0)).to.equal(2);
    expect(slice.extent(2)).to.deep.equal({ data: false, length: 98 });
  });

  it('leaves its parent open', () => {
    let closed = 0;
    const owned = Object.assign(new MemoryStorage('p', 10), { close: () => void closed++ });
    new SliceStorage(owned, 0, 5).close();
    expect(closed).to.equal(0);
  });
});
