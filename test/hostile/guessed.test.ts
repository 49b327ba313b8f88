import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import { PROBE_BYTES } from '../../src/image/format.js';
import { GuessedRaw } from '../../src/image/guessed.js';
import { formatOf } from '../../src/image/probe.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { imageFormats, samplesOf } from '../support/samples.js';
import { Random } from '../support/seed.js';

function isRaw(storage: MemoryStorage): boolean {
  return formatOf({ storage, formats, device: true }).name === 'raw';
}

/** Whether it was refused. */
function refused(action: () => void): boolean {
  try {
    action();
    return false;
  } catch (error) {
    if (error instanceof ImgfsError && error.reason === 'refused') return true;
    throw error;
  }
}

/** The ends of an image, where all that probes look at lies, in pieces. */
function piecesOf(image: Uint8Array, size: number): readonly { readonly at: number; readonly bytes: Uint8Array }[] {
  const pieces: { at: number; bytes: Uint8Array }[] = [];
  for (let at = 0; at < image.length; at += size) {
    const near = at < PROBE_BYTES || at + size > image.length - PROBE_BYTES;
    if (near) pieces.push({ at, bytes: image.subarray(at, at + size) });
  }
  return pieces;
}

function shuffled<T>(all: readonly T[], random: Random): readonly T[] {
  const left = [...all];
  return all.map(() => left.splice(random.below(left.length), 1)[0]!);
}

describe('hostile: mounted-raw-cannot-become-qcow2', () => {
  const opened = imageFormats.flatMap(({ name }) =>
    [...samplesOf(name).specimens(), ...samplesOf(name).good().slice(0, 1)]
      .filter(({ image }) => !isRaw(MemoryStorage.from(image)))
      .map((one) => ({ ...one, format: name })),
  );
  /** Formats that we only know by name, told by what stands at their end. */
  const trailed = ['conectix', 'koly\0\0\0\x04'].map((trailer) => {
    const image = Buffer.alloc(4 * PROBE_BYTES);
    image.write(trailer, image.length - 512, 'latin1');
    return { name: trailer.slice(0, 4), format: 'trailer', image };
  });
  const others = [...opened, ...trailed];

  it('has every format that is told by its content', () => {
    const told = new Set(opened.map(({ format }) => format));
    const all = imageFormats.map(({ name }) => name).filter((name) => name !== 'raw');
    expect([...told].sort()).to.deep.equal(all.sort());
  });

  for (const { name, format, image } of others) {
    it(`${format}, ${name}: written at once, in pieces of any order, or left by zeros`, () => {
      const random = new Random(1);
      const empty = (): MemoryStorage => new MemoryStorage('disk', image.length);
      const whole = empty();
      expect(refused(() => new GuessedRaw(whole, formats).write(image, 0))).to.equal(true);
      expect(whole.bytes().every((byte) => byte === 0)).to.equal(true);
      for (const size of [512, 100]) {
        const disk = empty();
        const guest = new GuessedRaw(disk, formats);
        const pieces = shuffled(piecesOf(image, size), random);
        const refusals = pieces.filter(({ at, bytes }) => refused(() => guest.write(bytes, at)));
        expect(refusals).to.not.deep.equal([]);
        expect(isRaw(disk)).to.equal(true);
      }
      // What hides it is zeroed last.
      const hidden = MemoryStorage.from(image);
      const mask = Buffer.from(image.subarray(0, 4096)).map((byte) => (byte === 0 ? 1 : byte));
      hidden.write(mask, 0);
      if (!isRaw(hidden)) return;
      const guest = new GuessedRaw(hidden, formats);
      for (let at = 0; at < mask.length; at++) if (image[at] === 0) refused(() => guest.discard(at, 1));
      expect(isRaw(hidden)).to.equal(true);
    });
  }

  for (const { name, image } of trailed) {
    it(`${name}: told by its end, moved there by another length`, () => {
      const { length } = image;
      const disk = MemoryStorage.from(image);
      disk.resize(length + 3 * PROBE_BYTES);
      const guest = new GuessedRaw(disk, formats);
      expect(refused(() => guest.resize(length))).to.equal(true);
      expect(disk.size()).to.equal(length + 3 * PROBE_BYTES);
      const short = MemoryStorage.from(image);
      short.resize(length - 100);
      for (const grow of [
        (raw: GuessedRaw) => raw.resize(length),
        (raw: GuessedRaw) => raw.allocate(length - 200, 200),
        (raw: GuessedRaw) => raw.write(Buffer.alloc(50), length - 50),
      ]) {
        expect(refused(() => grow(new GuessedRaw(short, formats)))).to.equal(true);
        expect(isRaw(short)).to.equal(true);
      }
    });
  }

  it('lets two threads that write half a header each end with a raw disk', () => {
    const [{ image }] = opened as [(typeof opened)[number]];
    const disk = new MemoryStorage('disk', image.length);
    const second = new GuessedRaw(disk, formats);
    let once = true;
    // The other thread's write comes between the look and the write of the first.
    const between = new Proxy(disk, {
      get(target, key) {
        if (key === 'write' && once) {
          once = false;
          target.write(image.subarray(0, 4), 0);
        }
        const value: unknown = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    expect(refused(() => new GuessedRaw(between, formats).write(image.subarray(4, 4096), 4))).to.equal(true);
    expect(isRaw(disk)).to.equal(true);
    second.write(Buffer.alloc(4096, 7), 0);
  });

  it('leaves every other write alone', () => {
    const disk = new MemoryStorage('disk', 8 * PROBE_BYTES);
    const guest = new GuessedRaw(disk, formats);
    const random = new Random(2);
    const model = Buffer.alloc(disk.size());
    for (let n = 0; n < 200; n++) {
      const at = random.below(model.length);
      const bytes = random.bytes(Math.min(model.length - at, 1 + random.below(9000)));
      guest.write(bytes, at);
      bytes.copy(model, at);
    }
    guest.discard(1000, 5000);
    model.fill(0, 1000, 6000);
    guest.resize(model.length + 100);
    guest.write(Buffer.alloc(4, 5), 3 * PROBE_BYTES);
    model.fill(5, 3 * PROBE_BYTES, 3 * PROBE_BYTES + 4);
    expect(disk.bytes().subarray(0, model.length).equals(model)).to.equal(true);
  });
});
