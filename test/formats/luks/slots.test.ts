/** Key slots, all eight of them, and what a passphrase costs and leaves behind. */
import { expect } from 'chai';
import { readLuksHeader } from '../../../src/codec/luks/header.js';
import { addKey, removeKey } from '../../../src/codec/luks/key-slots.js';
import { SLOTS } from '../../../src/codec/luks/layout.js';
import { unlock } from '../../../src/codec/luks/unlock.js';
import type { Image } from '../../../src/image/image.js';
import { sampleLuks } from '../../../src/image/sample-luks.js';
import { SAMPLE_PASSPHRASE } from '../../../src/image/samples.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { imageFormats, sampleKey, samplesOf } from '../../support/samples.js';
import { Random } from '../../support/seed.js';
import { writableContext } from '../../support/written.js';

const RECIPE = { mode: 'xts-plain64', keyBytes: 64, hash: 'sha256' };

/** Notes where it is read. */
class Read extends MemoryStorage {
  readonly places: number[] = [];

  override read(into: Uint8Array, at: number): number {
    this.places.push(at);
    return super.read(into, at);
  }
}

describe('LUKS key slots', () => {
  const passphrase = (n: number): Buffer => Buffer.from(`the passphrase of slot ${n}`);
  const random = new Random();
  const making = { random: (count: number) => random.bytes(count), iterations: 3 };

  function full(): { readonly storage: Read; readonly key: Buffer } {
    const { head, header, key } = sampleLuks({ ...RECIPE, slots: [] });
    const storage = new Read('disk', head.length);
    storage.write(head, 0);
    for (let n = 0; n < SLOTS; n++) {
      addKey(storage, n === 0 ? header : readLuksHeader(storage), { key, passphrase: passphrase(n), making });
    }
    return { storage, key };
  }

  it('each of eight opens by its own passphrase; there is no ninth', () => {
    const { storage, key } = full();
    const header = readLuksHeader(storage);
    for (let n = 0; n < SLOTS; n++) {
      const opened = unlock(storage, header, passphrase(n));
      expect(opened?.slot).to.equal(n);
      expect(opened?.key.equals(key)).to.equal(true);
    }
    expect(() => addKey(storage, header, { key, passphrase: passphrase(8), making })).to.throw(/all LUKS key slots/);
    removeKey(storage, header, 3, making.random);
    expect(unlock(storage, readLuksHeader(storage), passphrase(3))).to.equal(undefined);
    expect(addKey(storage, readLuksHeader(storage), { key, passphrase: passphrase(8), making })).to.equal(3);
    expect(unlock(storage, readLuksHeader(storage), passphrase(8))?.slot).to.equal(3);
  });

  it('a wrong passphrase is tried on each active slot, once', () => {
    const { storage } = full();
    const header = readLuksHeader(storage);
    storage.places.length = 0;
    expect(unlock(storage, header, Buffer.from('another'))).to.equal(undefined);
    expect(storage.places).to.deep.equal(header.slots.map(({ keyOffset }) => keyOffset));
  });

  for (const cipher of ['serpent', 'twofish', 'cast5']) {
    it(`${cipher} is refused by name, before any work`, () => {
      const { storage } = full();
      storage.write(Buffer.from(`${cipher}\0`), 8);
      expect(() => unlock(storage, readLuksHeader(storage), passphrase(0))).to.throw(
        `encrypted with ${cipher}-xts-plain64, which imgfs does not know`,
      );
    });
  }
});

describe('the key of an encrypted image', () => {
  for (const { name: format, open } of imageFormats) {
    const samples = samplesOf(format).writable?.() ?? [];
    for (const { name, files } of samples.filter(({ wholeSectors }) => wholeSectors === true)) {
      it(`is wiped when the image closes: ${format}, ${name}`, () => {
        const [image, base] = files(16);
        const storage = MemoryStorage.from(image?.bytes() ?? Buffer.alloc(0), 'disk');
        const keys: Uint8Array[] = [];
        const images = base === undefined ? {} : { [base.name]: { bytes: Buffer.from(base.bytes()), format: 'raw' } };
        const opened: Image = open(storage, {
          ...writableContext({ images }),
          key: (find) => {
            const key = sampleKey(find);
            keys.push(key.bytes);
            return key;
          },
        });
        opened.write(Buffer.from(SAMPLE_PASSPHRASE), 100);
        expect(keys).to.have.length(1);
        expect(keys[0]?.some((byte) => byte !== 0)).to.equal(true);
        opened.close();
        expect(keys[0]?.every((byte) => byte === 0)).to.equal(true);
      });
    }
  }
});
