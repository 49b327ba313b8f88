/** Clusters that are stored compressed: QEMU reads them, counts them as we do, and makes its own images no smaller. */
import fs from 'node:fs';
import { expect } from 'chai';
import { pack } from '../../../src/codec/pack.js';
import { prepareCodecs } from '../../../src/codec/zstd.js';
import type { Image } from '../../../src/image/image.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { writePacked } from '../../crash/operations.js';
import { needsTool, qemuImg } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random, SEED } from '../../support/seed.js';
import { expectClean, expectDisk, openWritable } from '../../support/written.js';

const KIB = 1024;
const SIZE = 1000 * KIB + 512;

/** Text of all sorts, noise that cannot be packed, zeros, and the end of a disk that is no whole cluster. */
function content(random: Random): Buffer {
  const bytes = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 16 * KIB) {
    const part = bytes.subarray(at, Math.min(SIZE, at + 16 * KIB));
    const kind = random.below(4);
    if (kind === 0) part.set(random.bytes(part.length));
    if (kind === 1) part.fill(`${random.below(1000)} lines of text, `);
    if (kind === 2) for (let n = 0; n < part.length; n += 4) part[n] = random.below(256);
  }
  return bytes;
}

const VARIANTS = [
  '',
  'compat=0.10',
  'compression_type=zstd',
  'cluster_size=512',
  'cluster_size=4k,refcount_bits=1',
  'cluster_size=4k,refcount_bits=2,compression_type=zstd',
  'cluster_size=2M',
  'extended_l2=on,cluster_size=16k',
] as const;

describe('qcow2: storing packed', () => {
  needsTool('qemu-img');
  const files = scratch();
  before(prepareCodecs);

  const made = (
    options: string,
    file = files.path('image'),
  ): { readonly image: Image; readonly save: () => string } => {
    fs.rmSync(file, { force: true });
    qemuImg('create', '-q', '-f', 'qcow2', ...(options === '' ? [] : ['-o', options]), file, String(SIZE));
    const storage = MemoryStorage.from(fs.readFileSync(file));
    return {
      image: openWritable(storage),
      save() {
        fs.writeFileSync(file, storage.bytes());
        return file;
      },
    };
  };

  for (const options of VARIANTS) {
    it(`qemu-img finds it right, clean and small (${options || 'as usual'})`, () => {
      const disk = content(new Random());
      const { image, save } = made(options);
      const unit = image.packing?.unit ?? 0;
      for (let at = 0; at < SIZE; at += unit) {
        const part = disk.subarray(at, at + unit);
        if (part.some((byte) => byte !== 0)) writePacked(image, part, at);
      }
      image.close();
      const file = save();
      expectClean(file);
      expectDisk(file, disk);
      const own = files.path('own');
      fs.writeFileSync(files.path('raw'), disk);
      const how = ['-c', '-m', '1', ...(options === '' ? [] : ['-o', options])];
      qemuImg('convert', ...how, '-f', 'raw', '-O', 'qcow2', files.path('raw'), own);
      // Some of it may be free clusters: small ones are reserved by the thousand, up to a quarter of the disk, and are no
      // end to be cut off where a refcount block came to lie behind them.
      const free = unit < 4 * KIB ? SIZE / 4 : Math.max(2 * unit, 64 * KIB);
      expect(fs.statSync(file).size).to.be.below(fs.statSync(own).size * 1.02 + free);
    });
  }

  it('over and over, in any order, between other changes: nothing is lost, nothing leaks', () => {
    const random = new Random();
    const { image, save } = made('cluster_size=4k');
    const model = Buffer.alloc(SIZE);
    for (let step = 0; step < 400; step++) {
      const at = 4 * KIB * random.below(Math.ceil(SIZE / (4 * KIB)));
      const part = model.subarray(at, at + 4 * KIB * (1 + random.below(6)));
      const kind = random.below(8);
      if (kind < 5) {
        part.fill(`${SEED} ${step} `);
        writePacked(image, part, at);
      } else if (kind < 6) {
        part.set(random.bytes(part.length));
        image.write(part, at);
      } else if (kind < 7) {
        part.fill(0);
        image.zero(at, part.length, { unmap: random.below(2) === 0 });
      } else image.flush();
      // Units are kept by their places, which others get.
      const found = Buffer.alloc(part.length);
      image.read(found, at);
      expect(found.equals(part), `step ${step}`).to.equal(true);
    }
    image.close();
    const file = save();
    expectClean(file);
    expectDisk(file, model);
  });

  it('is not possible where QEMU cannot, and takes whole units only', () => {
    const { image } = made('');
    const packed = pack('deflate', Buffer.alloc(64 * KIB, 1)) ?? Buffer.alloc(0);
    expect(() => image.writePacked(packed, 512)).to.throw(RangeError);
    expect(() => image.writePacked(packed, 1024 * KIB)).to.throw(RangeError);
    expect(() => image.writePacked(Buffer.alloc(64 * KIB), 0)).to.throw(RangeError);
    image.close();
    qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${files.path('data')}`, files.path('image'), '1M');
    const data = { [files.path('data')]: MemoryStorage.from(fs.readFileSync(files.path('data'))) };
    const outside = openWritable(MemoryStorage.from(fs.readFileSync(files.path('image'))), { storages: data });
    expect(outside.packing).to.equal(undefined);
    expect(() => outside.writePacked(packed, 0)).to.throw('stores nothing packed');
    outside.close();
  });
});
