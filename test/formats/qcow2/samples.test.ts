import fs from 'node:fs';
import { expect } from 'chai';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { brokenSamples, goodSamples } from '../../../src/formats/qcow2/samples/catalogue.js';
import { fromDisks, SampleImage } from '../../../src/formats/qcow2/samples/image.js';
import type { Image } from '../../../src/image/image.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { closedContext, readAll } from '../../support/images.js';
import { needsTool, qemuBytes, qemuImg } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';

function open(bytes: Uint8Array): Image {
  return qcow2.open(MemoryStorage.from(bytes, 'sample'), closedContext());
}

describe('qcow2 samples', () => {
  for (const sample of goodSamples()) {
    it(`reads: ${sample.name}`, () => {
      const image = open(sample.image);
      expect(readAll(image).equals(sample.disk)).to.equal(true);
      expect(readAll(image, 777).equals(sample.disk)).to.equal(true);
      expect(image.snapshots().map(({ id }) => id)).to.deep.equal(sample.snapshots.map(({ id }) => id));
      for (const { id, disk, vmState } of sample.snapshots) {
        const snapshot = image.openSnapshot(id);
        expect(readAll(snapshot).equals(disk), id).to.equal(true);
        snapshot.close();
        if (vmState.length === 0) expect(() => image.openVmState(id)).to.throw(/no machine state/);
        else expect(readAll(image.openVmState(id)).equals(vmState)).to.equal(true);
      }
      image.close();
    });
  }

  for (const sample of brokenSamples()) {
    it(`refuses: ${sample.name}`, () => {
      const act = () => {
        const image = open(sample.image);
        if (sample.fails === 'read') image.read(new Uint8Array(512), 0);
        if (sample.fails === 'snapshots') image.snapshots();
        if (sample.fails === 'info') image.info.specific;
        return image;
      };
      let thrown: unknown;
      try {
        act();
      } catch (error) {
        thrown = error;
      }
      expect(thrown).to.be.instanceOf(ImgfsError);
      const { reason, message } = thrown as ImgfsError;
      expect(`${reason}: ${message}`).to.match(new RegExp(`^${sample.reason}: sample: [^\n]*$`));
      if (sample.fails !== 'open') open(sample.image).close();
    });
  }

  it('names an unknown feature as the image does', () => {
    const sample = brokenSamples().find(({ name }) => name.startsWith('an unknown incompatible'));
    expect(() => open(sample?.image ?? new Uint8Array())).to.throw(/time travel \(bit 9\)/);
  });

  it('keeps reading beside a damaged entry', () => {
    const sample = brokenSamples().find(({ name }) => name === 'an L2 entry that is not aligned');
    const image = open(sample?.image ?? new Uint8Array());
    const into = new Uint8Array(65_536);
    image.read(into, 65_536);
    expect(into.every((byte) => byte === 0)).to.equal(true);
  });

  it('shows disks given as states', () => {
    const first = Buffer.alloc(300_000, 1);
    const second = Buffer.from(first).fill(2, 200_000);
    const image = open(fromDisks([{ snapshot: 'a', disk: first }, { snapshot: 'b', disk: second }, { disk: first }]));
    expect(readAll(image).equals(first)).to.equal(true);
    expect(readAll(image.openSnapshot('2')).equals(second)).to.equal(true);
  });

  it('tells about encrypted images without their passphrase, and reads nothing of them', () => {
    for (const [cryptMethod, format] of [
      [1, 'aes'],
      [2, 'luks'],
    ] as const) {
      const image = open(new SampleImage({ size: 2 ** 20, cryptMethod }).write(0, Buffer.alloc(65_536, 1)).build());
      expect(image.info.encrypted).to.equal(true);
      expect(image.info.specific?.data.encrypt).to.deep.equal({ format });
      expect(() => image.read(new Uint8Array(1), 0)).to.throw(ImgfsError, /encrypted, and no passphrase/);
      expect(image.extent(0, 1), 'never a place to copy from').not.to.have.any.keys('storage', 'offset');
    }
  });

  it('never probes true on something else', () => {
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.alloc(7, 0x51),
      Buffer.alloc(512),
      Buffer.from('514649fb00000001', 'hex'),
    ]) {
      expect(qcow2.probe(bytes, bytes, bytes.length)).to.equal(false);
    }
  });
});

describe('qcow2 samples, as QEMU sees them', () => {
  needsTool('qemu-img');
  const directory = scratch();

  for (const sample of goodSamples()) {
    it(sample.name, () => {
      const path = directory.path('sample.qcow2');
      fs.writeFileSync(path, sample.image);
      if (sample.name !== 'dirty') qemuImg('check', path);
      const seen = qemuBytes(path, '-f', 'qcow2');
      expect(seen.equals(sample.disk.subarray(0, seen.length))).to.equal(true);
    });
  }
});
