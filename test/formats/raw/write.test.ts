import fs from 'node:fs';
import { expect } from 'chai';
import { raw } from '../../../src/formats/raw/index.js';
import type { Image } from '../../../src/image/image.js';
import { SharedImage } from '../../../src/image/shared-image.js';
import { Sharing } from '../../../src/image/sharing.js';
import { FileStorage } from '../../../src/storage/file.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import type { Storage } from '../../../src/storage/storage.js';
import { closedContext, readAll } from '../../support/images.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';

function openRaw(storage: Storage, sharing?: Sharing): Image {
  return raw.open(storage, { ...closedContext(), writable: true, sharing });
}

describe('raw, written', () => {
  const files = scratch();

  it('is what the storage holds after any mix of writes, zeros and sizes', () => {
    const random = new Random();
    const storage = new MemoryStorage('disk', 10_000);
    const image = openRaw(storage);
    let model = Buffer.alloc(10_000);
    for (let step = 0; step < 300; step++) {
      const at = random.below(model.length);
      const length = random.below(Math.min(5000, model.length - at) + 1);
      const kind = random.below(8);
      if (kind < 4) {
        const bytes = random.bytes(length);
        image.write(bytes, at);
        model.set(bytes, at);
      } else if (kind < 7) {
        image.zero(at, length, { unmap: kind === 4 });
        model.fill(0, at, at + length);
      } else {
        const size = 1 + random.below(20_000);
        image.resize(size);
        const next = Buffer.alloc(size);
        model.copy(next);
        model = next;
      }
      expect(image.size).to.equal(model.length);
    }
    expect(readAll(image).equals(model)).to.equal(true);
    image.close();
    expect(storage.bytes().equals(model)).to.equal(true);
  });

  it('is one host write per write, and nothing before it is asked for', () => {
    const journal = new Journal();
    const image = openRaw(journal.record(new MemoryStorage('disk', 2 ** 21)));
    image.read(new Uint8Array(4096), 0);
    expect(journal.entries).to.have.length(0);
    image.write(new Uint8Array(2 ** 20), 4096);
    image.flush();
    expect(journal.entries.map(({ kind }) => kind)).to.deep.equal(['write', 'flush']);
  });

  it('gives space back to the host', () => {
    const file = files.path('punched');
    fs.writeFileSync(file, Buffer.alloc(2 ** 20, 1));
    const fd = fs.openSync(file, 'r+');
    const image = openRaw(new FileStorage({ fd, name: file, size: 2 ** 20, writable: true }, () => fs.closeSync(fd)));
    const before = image.hostBytes();
    image.zero(1000, 2 ** 19, { unmap: true });
    expect(image.hostBytes()).to.be.lessThan(before);
    image.close();
    const bytes = fs.readFileSync(file);
    expect(bytes.length).to.equal(2 ** 20);
    expect(bytes.indexOf(0)).to.equal(1000);
    expect(bytes.indexOf(1, 1000)).to.equal(1000 + 2 ** 19);
  });

  it('shows one thread the size another gave it', () => {
    const storage = new MemoryStorage('disk', 4096);
    const sharing = new Sharing();
    const [first, second] = [new SharedImage(openRaw(storage, sharing), sharing), openRaw(storage, sharing)];
    first.resize(8192);
    expect(second.size).to.equal(8192);
    first.write(Buffer.from('new'), 8000);
    const seen = Buffer.alloc(3);
    second.read(seen, 8000);
    expect(seen.toString()).to.equal('new');
  });

  it('cannot be written when it was opened to be read', () => {
    const image = raw.open(new MemoryStorage('disk', 4096), closedContext());
    expect(image.writable).to.equal(false);
    expect(() => image.write(new Uint8Array(1), 0)).to.throw(/read-only/);
    expect(() => image.zero(0, 1, { unmap: true })).to.throw(/read-only/);
    image.flush();
    image.close();
  });
});
