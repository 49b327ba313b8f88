/** The independent audit of qcow2: nothing to say about good images, and of one mind with qemu-img about bad ones. */
import { expect } from 'chai';
import { goodSamples } from '../../src/formats/qcow2/samples/catalogue.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { needsTool } from '../support/qemu.js';
import { Random, SEED } from '../support/seed.js';
import { auditQcow2 } from './audit.js';
import { HostCopy } from './host-copy.js';

const samples = goodSamples().filter(({ name }) => name !== 'dirty' && name !== 'marked corrupt');

describe('audit of qcow2', () => {
  for (const { name, image } of samples) {
    it(`finds nothing in a good image: ${name}`, () => {
      const { corruptions, leaks } = auditQcow2(MemoryStorage.from(image));
      expect(corruptions).to.deep.equal([]);
      expect(leaks).to.equal(0);
    });
  }
});

describe('audit of qcow2 and qemu-img', () => {
  needsTool('qemu-img');
  let host: HostCopy;
  before(() => {
    host = new HostCopy();
  });
  after(() => host.dispose());

  it('agree about images with changed refcounts, entries and table offsets', () => {
    const random = new Random(SEED);
    for (let n = 0; n < 60; n++) {
      const { name, image } = random.pick(samples);
      const damaged = MemoryStorage.from(image);
      damage(damaged, random);
      const storage = damaged.copy();
      const { corruptions, leaks } = auditQcow2(storage);
      const { code, output } = host.check(host.put([{ name: 'd.qcow2', role: 'image', storage }], [storage]), 'qcow2');
      const expected = corruptions.length > 0 ? 2 : leaks > 0 ? 3 : 0;
      expect(code, `case ${n} (${name}): ${corruptions.join('; ')}\n${output}`).to.equal(expected);
    }
  });
});

/** Changes one refcount by one, up or down. */
function damage(image: MemoryStorage, random: Random): void {
  const header = Buffer.alloc(104);
  image.read(header, 0);
  const version = header.readUInt32BE(4);
  const width = version === 2 ? 2 : 2 ** header.readUInt32BE(96) / 8;
  const table = Buffer.alloc(8);
  image.read(table, Number(header.readBigUInt64BE(48)));
  const block = Number(table.readBigUInt64BE(0));
  const clusters = Math.min(image.size() / 2 ** header.readUInt32BE(20), 2 ** header.readUInt32BE(20) / width);
  const at = block + random.below(Math.floor(clusters)) * width + width - 1;
  const byte = new Uint8Array(1);
  image.read(byte, at);
  const old = byte[0] ?? 0;
  byte[0] = old === 0 || random.below(2) === 0 ? old + 1 : old - 1;
  image.write(byte, at);
}
