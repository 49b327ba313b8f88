import { expect } from 'chai';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { brokenSamples, goodSamples } from '../../../src/formats/qcow2/samples/catalogue.js';
import { SampleImage } from '../../../src/formats/qcow2/samples/image.js';
import { layOut } from '../../../src/formats/qcow2/samples/lay-out.js';
import type { OpenContext } from '../../../src/image/format.js';
import { extents } from '../../../src/image/image.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { closedContext, readAll } from '../../support/images.js';
import { Random, SEED } from '../../support/seed.js';

const UNIT = 65_536;

/** A storage that counts its reads and fails the one asked for. */
class Watched extends MemoryStorage {
  reads = 0;
  bytesRead = 0;
  closed = 0;
  failAt = 0;

  static holding(bytes: Uint8Array): Watched {
    const storage = new Watched('watched');
    storage.write(bytes, 0);
    return storage;
  }

  override read(into: Uint8Array, at: number): number {
    this.reads++;
    this.bytesRead += into.length;
    if (this.reads === this.failAt) throw new ImgfsError('io', 'watched: input/output error');
    return super.read(into, at);
  }

  override close(): void {
    this.closed++;
  }
}

function withDataFile(data: MemoryStorage): OpenContext {
  return { ...closedContext(), openStorage: () => data };
}

describe('qcow2 mapping', () => {
  it('reads a contiguous megabyte with one host read', () => {
    const bytes = new Random().bytes(4096);
    const disk = Buffer.alloc(2 ** 20, bytes);
    for (const options of [{}, { clusterBits: 12 }, { clusterBits: 14, extended: true }]) {
      const storage = Watched.holding(new SampleImage({ size: 2 ** 20, ...options }).write(0, disk).build());
      const image = qcow2.open(storage, closedContext());
      const into = Buffer.alloc(2 ** 20);
      image.read(into.subarray(0, 512), 0);
      storage.reads = 0;
      image.read(into, 0);
      expect(storage.reads, JSON.stringify(options)).to.equal(1);
      expect(into.equals(disk)).to.equal(true);
    }
  });

  it('answers an empty disk of petabytes in a few steps', () => {
    const size = 2 ** 51;
    const image = qcow2.open(MemoryStorage.from(new SampleImage({ size, clusterBits: 21 }).build()), closedContext());
    const found = [...extents(image)];
    expect(found).to.have.length(1);
    expect(found[0]).to.include({ start: 0, length: size, present: false, zero: true, data: false });
    image.close();
  });

  it('keeps no more table slices than its budget, and stays right', () => {
    const recipe = new SampleImage({ size: 64 * 512 * 40, clusterBits: 9 });
    for (let table = 0; table < 40; table++) recipe.write(table * 64 * 512, new Uint8Array(512).fill(table + 1));
    const storage = Watched.holding(recipe.build());
    const image = qcow2.open(storage, closedContext({ cacheBytes: 1024 }));
    const into = new Uint8Array(512);
    for (let round = 0; round < 2; round++) {
      storage.bytesRead = 0;
      for (let table = 0; table < 40; table++) {
        image.read(into, table * 64 * 512);
        expect(into[0]).to.equal(table + 1);
      }
      expect(storage.bytesRead).to.equal(40 * 1024);
    }
  });

  it('reads a snapshot through the tables of the image, and only its own L1', () => {
    const recipe = new SampleImage({ size: UNIT * 4 }).write(0, new Uint8Array(UNIT).fill(1)).snapshot('a');
    const storage = Watched.holding(recipe.write(0, new Uint8Array(UNIT).fill(2)).build());
    const image = qcow2.open(storage, closedContext());
    image.snapshots();
    storage.reads = 0;
    const snapshot = image.openSnapshot('1');
    expect(storage.reads).to.equal(1);
    snapshot.close();
    expect(storage.closed).to.equal(0);
    image.close();
    image.close();
    expect(storage.closed).to.equal(1);
  });

  it('shows a snapshot from before a resize at its own size', () => {
    const recipe = new SampleImage({ size: UNIT * 2 }).write(0, new Uint8Array(UNIT * 2).fill(1));
    recipe.snapshot('own size').snapshot('no extra data', { extraBytes: 0 });
    recipe.resize(UNIT * 5).write(UNIT * 4, new Uint8Array(UNIT).fill(2));
    const image = qcow2.open(MemoryStorage.from(recipe.build()), closedContext());
    expect(image.size).to.equal(UNIT * 5);
    expect(image.openSnapshot('1').size).to.equal(UNIT * 2);
    expect(image.openSnapshot('2').size).to.equal(UNIT * 5);
    expect(readAll(image.openSnapshot('1')).equals(Buffer.alloc(UNIT * 2, 1))).to.equal(true);
  });

  it('keeps every snapshot reachable when ids are empty or equal, and names as bytes', () => {
    const name = Buffer.from([0xff, 0x2f, 0x00, 0xfe]);
    const recipe = new SampleImage({ size: UNIT });
    recipe.snapshot(name, { id: '7' }).snapshot('', { id: '7' }).snapshot('x', { id: '' });
    const image = qcow2.open(MemoryStorage.from(recipe.build()), closedContext());
    expect(image.snapshots().map(({ id }) => id)).to.deep.equal(['7', '7#2', '#3']);
    expect(Buffer.from(image.snapshots()[0]?.nameBytes ?? []).equals(name)).to.equal(true);
    for (const { id } of image.snapshots()) expect(image.openSnapshot(id).size).to.equal(UNIT);
    expect(() => image.openSnapshot('8')).to.throw(ImgfsError, /no snapshot has the id 8/);
  });

  it('maps subclusters one by one', () => {
    const recipe = new SampleImage({ size: 2 ** 15, clusterBits: 14, extended: true });
    recipe
      .write(512, new Uint8Array(1024).fill(1))
      .zeroSubclusters(1024, 1024)
      .write(2 ** 14, new Uint8Array(512));
    const image = qcow2.open(MemoryStorage.from(recipe.build()), closedContext());
    const found = [...extents(image)].map(({ length, data, zero, present }) => ({ length, data, zero, present }));
    expect(found.slice(0, 3)).to.deep.equal([
      { length: 512, data: false, zero: true, present: false },
      { length: 512, data: true, zero: false, present: true },
      { length: 1024, data: false, zero: true, present: true },
    ]);
    expect(found.reduce((sum, { length }) => sum + length, 0)).to.equal(2 ** 15);
  });
});

describe('qcow2 with an external data file', () => {
  it('reads the data file, offset 0 included', () => {
    const recipe = new SampleImage({ size: UNIT * 3, dataFile: { name: 'disk.bin', raw: true } });
    recipe.write(0, new Random().bytes(UNIT)).write(UNIT * 2, new Random(SEED + 1).bytes(UNIT));
    const data = MemoryStorage.from(recipe.buildDataFile(), 'disk.bin');
    const image = qcow2.open(MemoryStorage.from(recipe.build()), withDataFile(data));
    expect(readAll(image).equals(recipe.plain())).to.equal(true);
    expect(image.extent(0, UNIT)).to.include({ storage: data, offset: 0 });
    expect(image.info.specific?.data).to.include({ 'data-file': 'disk.bin', 'data-file-raw': true });
  });

  it('opens without touching the file: info has only a stand-in', () => {
    const image = new SampleImage({ size: UNIT, dataFile: { name: 'd' }, backing: { name: 'b', format: 'raw' } });
    const opened = qcow2.open(MemoryStorage.from(image.build()), closedContext());
    expect(opened.info.backing).to.deep.equal({ name: 'b', format: 'raw' });
    opened.close();
  });

  it('refuses entries that point elsewhere in it', () => {
    const recipe = new SampleImage({ size: UNIT * 3, dataFile: { name: 'd' } }).write(0, new Uint8Array(UNIT));
    const { image, l2At } = layOut(recipe);
    image[(l2At.get(0) ?? 0) + 5] = 1;
    const opened = qcow2.open(MemoryStorage.from(image), withDataFile(new MemoryStorage('d')));
    expect(() => opened.read(new Uint8Array(1), 0)).to.throw(ImgfsError, /elsewhere in the data file/);
  });

  it('refuses one that is needed and not named', () => {
    const image = new SampleImage({ size: UNIT, dataFile: { name: '' } }).build();
    expect(() => qcow2.open(MemoryStorage.from(image), closedContext())).to.throw(ImgfsError, /names none/);
  });

  it('is closed again when the backing image cannot be opened', () => {
    const image = new SampleImage({ size: UNIT, dataFile: { name: 'd' }, backing: { name: 'b' } }).build();
    const data = new Watched('d');
    const context = {
      ...withDataFile(data),
      openImage: () => {
        throw new ImgfsError('missing', 'b: no such file');
      },
    };
    const storage = Watched.holding(image);
    expect(() => qcow2.open(storage, context)).to.throw(/no such file/);
    expect(data.closed).to.equal(1);
    expect(storage.closed).to.equal(0);
  });
});

describe('qcow2 under damage', () => {
  it('passes on a host failure at any read of open, and opens after it', () => {
    const bytes = new SampleImage({ size: UNIT }).build();
    const whole = Watched.holding(bytes);
    qcow2.open(whole, closedContext());
    for (let failAt = 1; failAt <= whole.reads; failAt++) {
      const storage = Watched.holding(bytes);
      storage.failAt = failAt;
      expect(() => qcow2.open(storage, closedContext()), String(failAt)).to.throw(ImgfsError, /input\/output error/);
    }
  });

  it('says what is wrong with a file cut short anywhere in its header', () => {
    const bytes = new SampleImage({ size: UNIT * 4 }).write(0, new Uint8Array(UNIT)).build();
    for (let length = 0; length < UNIT; length += length < 128 ? 1 : 4096) {
      const storage = MemoryStorage.from(bytes.subarray(0, length), 'cut');
      expect(() => qcow2.open(storage, closedContext()), String(length)).to.throw(ImgfsError, /^cut: /);
    }
  });

  it('throws nothing but its own errors, whatever bytes are wrong', function () {
    this.timeout(30_000);
    const random = new Random();
    const samples = [...goodSamples(), ...brokenSamples()].filter(({ image }) => image.length < 2 ** 21);
    for (let round = 0; round < 400; round++) {
      const sample = samples[random.below(samples.length)];
      if (sample === undefined) continue;
      const bytes = Buffer.from(sample.image);
      const clusters = Math.floor(bytes.length / 512);
      for (let i = 0; i < 3; i++) {
        const at = i === 0 ? random.below(160) : random.below(clusters) * 512 + random.below(24);
        if (at < bytes.length) bytes[at] = [0, 1, 255, random.below(256)][random.below(4)] ?? 0;
      }
      exercise(bytes, `${sample.name}, round ${round}`);
    }
  });
});

/** Does everything a reader does, at a few places; anything but an ImgfsError is a bug. */
function exercise(bytes: Uint8Array, what: string): void {
  const tolerate = (act: () => void): void => {
    try {
      act();
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw new Error(`${what}: ${String(error)}`, { cause: error });
    }
  };
  tolerate(() => {
    const image = qcow2.open(MemoryStorage.from(bytes, 'fuzz'), closedContext());
    tolerate(() => void image.info.specific);
    const places = [0, Math.floor(image.size / 2), Math.max(0, image.size - 5000)];
    for (const at of places) {
      const length = Math.min(5000, image.size - at);
      tolerate(() => image.read(new Uint8Array(length), at));
      if (length > 0) tolerate(() => void image.extent(at, length));
    }
    tolerate(() => {
      for (const { id } of image.snapshots().slice(0, 3)) {
        for (const open of [() => image.openSnapshot(id), () => image.openVmState(id)]) {
          tolerate(() => {
            const derived = open();
            derived.read(new Uint8Array(Math.min(1, derived.size)), 0);
          });
        }
      }
    });
    image.close();
  });
}
