import { expect } from 'chai';
import { putEntry } from '../../../src/formats/qcow2/encode.js';
import { SampleImage } from '../../../src/formats/qcow2/samples/image.js';
import { ImgfsError, type Reason } from '../../../src/lib/errors.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
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

describe('qcow2, not written', () => {
  for (const [name, options, reason] of [
    ['dirty', { dirty: true }, 'unsupported'],
    ['marked corrupt', { corrupt: true }, 'corrupt'],
  ] as const) {
    it(`refuses an image that is ${name}, before anything is changed`, () => {
      const storage = MemoryStorage.from(new SampleImage({ size: SIZE, ...options }).build());
      expect(reasonOf(() => openWritable(storage))).to.equal(reason);
    });
  }

  it('never lets guest data land on a table, and writes nothing any more afterwards', () => {
    const bytes = Buffer.from(new SampleImage({ size: SIZE }).write(0, Buffer.alloc(131_072, 1)).build());
    const l1At = Number(bytes.readBigUInt64BE(40));
    const l2At = Number(bytes.readBigUInt64BE(l1At) % 2n ** 56n);
    // The header itself cannot be named: offset 0 means no place at all.
    for (const target of [l1At, l2At, Number(bytes.readBigUInt64BE(48))]) {
      const forged = Buffer.from(bytes);
      putEntry(forged, l2At, { offset: target, copied: true });
      const journal = new Journal();
      const image = openWritable(journal.record(MemoryStorage.from(forged)));
      expect(reasonOf(() => image.write(Buffer.alloc(4096, 2), 0))).to.equal('corrupt');
      expect(reasonOf(() => image.write(Buffer.alloc(4096, 2), 65_536))).to.equal('corrupt');
      expect(reasonOf(() => image.flush())).to.equal('corrupt');
      image.read(Buffer.alloc(4096), 65_536);
      image.close();
      expect(journal.entries).to.deep.equal([]);
    }
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
