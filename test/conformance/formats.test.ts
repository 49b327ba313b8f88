/**
 * What every format owes: one suite over the format table. A format that cannot be held to a part of it says why in
 * its samples (its `samples.ts`), and the reason is printed.
 */
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import type { ImageFormat } from '../../src/image/format.js';
import { extents, type Image } from '../../src/image/image.js';
import type { BrokenSample, GoodSample, SampleFile, Specimen } from '../../src/image/samples.js';
import { Faults } from '../../src/storage/faults.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import { exercise } from '../support/exercise.js';
import { readAll } from '../support/images.js';
import { outcome } from '../support/outcome.js';
import { imageFormats, sampleContext, samplesOf } from '../support/samples.js';
import { Random, SEED } from '../support/seed.js';

/** Counts how often each storage was closed for the first time. */
class Counted extends MemoryStorage {
  closes = 0;

  override close(): void {
    this.closes++;
  }
}

function counted(bytes: Uint8Array): Counted {
  const storage = new Counted('sample');
  storage.write(bytes, 0);
  return storage;
}

function open(format: ImageFormat, bytes: Uint8Array, beside?: readonly SampleFile[]): Image {
  return format.open(MemoryStorage.from(bytes, 'sample'), sampleContext(beside));
}

function same(image: Image, disk: Uint8Array, at: number, length: number): void {
  const into = Buffer.alloc(length, 0x55);
  image.read(into, at);
  if (Buffer.compare(into, disk.subarray(at, at + length)) !== 0) throw new Error(`wrong bytes at ${at}+${length}`);
}

for (const format of imageFormats) {
  const offer = samplesOf(format.name);
  describe(`conformance: ${format.name}`, () => {
    it('has samples', () => expect(offer.good().length).to.be.greaterThan(0));

    for (const sample of offer.good()) describe(sample.name, () => reading(format, sample));

    for (const specimen of offer.specimens()) {
      describe(specimen.name, () => reading(format, { ...specimen, snapshots: [] }));
    }

    for (const sample of offer.broken()) {
      it(`refuses ${sample.name}, as ${sample.reason}, at the first ${sample.fails}`, () => refusing(format, sample));
    }

    const [damage] = offer.specimens();
    if (damage === undefined) {
      it(`is not damaged on purpose: ${offer.wholeAtAnyLength ?? 'no specimens'}`, () =>
        expect(offer.wholeAtAnyLength).to.be.a('string'));
    } else {
      for (const specimen of offer.specimens()) {
        describe(`${specimen.name}, damaged`, () => damaged(format, specimen));
      }
    }
  });
}

/** What is broken is refused where it is met, never before: the rest of the image stays of use. */
function refusing(format: ImageFormat, { image: bytes, beside, fails, reason }: BrokenSample): void {
  let image: Image | undefined;
  const steps: readonly (readonly [BrokenSample['fails'], () => void])[] = [
    [
      'open',
      () => {
        image = open(format, bytes, beside);
      },
    ],
    ['read', () => image?.read(new Uint8Array(512), 0)],
    ['snapshots', () => void image?.snapshots()],
    ['info', () => void image?.info.specific],
  ];
  for (const [step, action] of steps) {
    if (fails === 'open' && step !== 'open') break;
    expect(outcome(action), step).to.equal(step === fails ? reason : 'done');
  }
  image?.close();
}

function reading(format: ImageFormat, { image: bytes, beside, disk }: GoodSample): void {
  const random = new Random(SEED);

  it('reads the whole disk in one call, and in steps of every size', () => {
    const image = open(format, bytes, beside);
    expect(image.size).to.equal(disk.length);
    same(image, disk, 0, disk.length);
    for (const step of [333, 4096, image.blockSize + 1]) expect(readAll(image, step).equals(disk)).to.equal(true);
    image.close();
  });

  it('reads at every alignment, across blocks', () => {
    const image = open(format, bytes, beside);
    const edges = Array.from({ length: 6 }, (_, n) => n * image.blockSize).filter((edge) => edge <= disk.length);
    for (const edge of [...edges, disk.length]) {
      for (const before of [0, 1, 2, 3, 5, 8, 511, 512, 513]) {
        const at = Math.max(0, edge - before);
        for (const length of [1, 7, 512, 1025, image.blockSize * 2 + 1]) {
          same(image, disk, at, Math.min(length, disk.length - at));
        }
      }
    }
    for (let trial = 0; trial < 200; trial++) {
      const at = random.below(disk.length);
      same(image, disk, at, 1 + random.below(disk.length - at));
    }
    image.close();
  });

  it('refuses ranges outside the disk', () => {
    const image = open(format, bytes, beside);
    const { size } = image;
    for (const [at, length] of [
      [size, 1],
      [size - 1, 2],
      [-1, 1],
      [size + 5, 0],
      [Number.NaN, 1],
      [2 ** 53, 512],
    ]) {
      expect(() => image.read(new Uint8Array(length ?? 0), at ?? 0), `${at}+${length}`).to.throw(RangeError);
      expect(() => image.extent(at ?? 0, length ?? 0)).to.throw(RangeError);
    }
    image.read(new Uint8Array(0), size);
    image.close();
  });

  it('has extents that tile the disk and agree with what is read', () => {
    const image = open(format, bytes, beside);
    let end = 0;
    for (const extent of extents(image)) {
      expect(extent.start).to.equal(end);
      end += extent.length;
      const part = disk.subarray(extent.start, end);
      if (extent.zero) expect(part.every((byte) => byte === 0)).to.equal(true);
      if (!extent.data) expect(extent.zero).to.equal(true);
      if (!extent.data || extent.zero || extent.storage === undefined || extent.offset === undefined) continue;
      const stored = Buffer.alloc(part.length);
      extent.storage.read(stored, extent.offset);
      expect(Buffer.compare(stored, part)).to.equal(0);
    }
    expect(end).to.equal(disk.length);
    for (let trial = 0; trial < 100; trial++) {
      const at = random.below(disk.length);
      const most = 1 + random.below(disk.length - at);
      expect(image.extent(at, most).length).to.be.within(1, most);
    }
    image.close();
  });

  it('closes its storage once, however often it is closed', () => {
    const storage = counted(bytes);
    const image = format.open(storage, sampleContext(beside));
    for (const { id } of image.snapshots()) image.openSnapshot(id).close();
    expect(storage.closes).to.equal(0);
    image.close();
    image.close();
    expect(storage.closes).to.equal(1);
    expect(() => image.read(new Uint8Array(1), 0)).to.throw(/after close/);
  });

  it('fails cleanly wherever a read of the file fails, and works once it does not', () => {
    for (let k = 1; ; k++) {
      for (const persistent of [false, true]) {
        const faults = new Faults({ at: k, persistent, effect: 'io' });
        const below = counted(bytes);
        const storage: Storage = faults.inject(below);
        let image: Image | undefined;
        const opened = outcome(() => {
          image = format.open(storage, sampleContext(beside));
        });
        if (opened === 'done') {
          const into = Buffer.alloc(disk.length);
          const read = outcome(() => image?.read(into, 0));
          expect(read).to.equal(faults.fired > 0 && read !== 'done' ? 'io' : 'done');
          if (read === 'done') expect(into.equals(disk)).to.equal(true);
          if (!persistent && faults.fired > 0 && image !== undefined) same(image, disk, 0, disk.length);
          image?.close();
          expect(below.closes).to.equal(1);
        } else {
          expect(opened).to.equal('io');
          // The opener of the storage closes it; a driver that failed has taken nothing over.
          expect(below.closes).to.equal(0);
        }
        if (faults.fired === 0) return;
      }
    }
  });
}

function damaged(format: ImageFormat, { image: bytes, beside, disk, fields }: Specimen): void {
  it('truncation-sweep: cut anywhere, it is refused, or what can be read is right', () => {
    const whole = open(format, bytes, beside);
    const fine = Array.from({ length: Math.min(4096, bytes.length) / 16 }, (_, n) => n * 16);
    const coarse = Array.from({ length: Math.ceil(bytes.length / 64) }, (_, n) => n * 64).filter((n) => n > 4096);
    for (const length of [...fine, ...coarse.filter((n) => bytes.length < 40_000 || n % 512 === 0)]) {
      let image: Image | undefined;
      const opened = outcome(() => {
        image = open(format, bytes.subarray(0, length), beside);
      });
      if (opened !== 'done' || image === undefined) {
        expect(opened, `cut to ${length}`).to.be.oneOf(['truncated', 'corrupt', 'limit', 'unsupported']);
        continue;
      }
      checkCut(image, disk, length);
      const listed = image;
      const names = (of: Image): string => JSON.stringify(of.snapshots().map(({ id, name }) => [id, name]));
      if (outcome(() => void listed.snapshots()) === 'done') expect(names(listed)).to.equal(names(whole));
      image.close();
    }
  });

  it('all-ones: every field full', () => {
    for (const { at, bytes: width } of fields) {
      const changed = Buffer.from(bytes).fill(0xff, at, at + width);
      exercise(format, changed, { reads: 3, extents: 10, random: new Random(at), beside });
    }
  });
}

/** Data past the end of a file reads as zeros, by every format's own rule; nothing else may differ. */
function checkCut(image: Image, disk: Uint8Array, length: number): void {
  for (let at = 0; at < disk.length; at += image.blockSize) {
    const into = Buffer.alloc(Math.min(image.blockSize, disk.length - at));
    if (outcome(() => image.read(into, at)) !== 'done') continue;
    const wrong = into.findIndex((byte, n) => byte !== disk[at + n]);
    if (wrong < 0) continue;
    const extent = image.extent(at + wrong, 1);
    const past = extent.offset !== undefined && extent.offset >= length;
    if (!past || !into.subarray(wrong).every((byte) => byte === 0)) throw new Error(`cut to ${length}: wrong at ${at}`);
  }
}

describe('conformance: probing', () => {
  const random = new Random(SEED);
  const heads = imageFormats.flatMap(({ name }) =>
    samplesOf(name)
      .good()
      .slice(0, 3)
      .map(({ image }) => Buffer.from(image)),
  );

  function claims(bytes: Buffer): string[] {
    const head = bytes.subarray(0, 65_536);
    const tail = bytes.subarray(Math.max(0, bytes.length - 65_536));
    return formats.filter((format) => format.probe(head, tail, bytes.length)).map(({ name }) => name);
  }

  it('never throws: on nothing, on noise, on every prefix of a good image', () => {
    for (let length = 0; length < 700; length++) claims(random.bytes(length));
    for (const head of heads) {
      for (let length = 0; length < 700; length++) {
        const cut = head.subarray(0, length);
        claims(cut);
        for (const format of formats) format.ownBytes?.(cut);
      }
      for (let trial = 0; trial < 200; trial++) {
        const changed = Buffer.from(head.subarray(0, 70_000));
        for (let n = 0; n < 5; n++) changed[random.below(600)] = random.below(256);
        claims(changed);
      }
    }
  });

  it('changes nothing in what it looks at', () => {
    for (const head of heads) {
      const copy = Buffer.from(head);
      claims(head);
      expect(head.equals(copy)).to.equal(true);
    }
  });

  it('claims each good sample for its own format only, in any order', () => {
    for (const { name } of imageFormats) {
      if (name === 'raw') continue;
      for (const { image } of samplesOf(name).good()) {
        expect(claims(Buffer.from(image))).to.deep.equal([name]);
      }
    }
  });

  it('never claims noise', () => {
    for (let trial = 0; trial < 200; trial++) expect(claims(random.bytes(4096))).to.deep.equal([]);
    expect(claims(Buffer.alloc(70_000))).to.deep.equal([]);
    expect(claims(Buffer.alloc(70_000, 0xff))).to.deep.equal([]);
  });
});
