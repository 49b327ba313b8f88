import fs from 'node:fs';
import { expect } from 'chai';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { preallocateNew } from '../../../src/formats/qcow2/write/preallocate.js';
import { extents } from '../../../src/image/image.js';
import { SAMPLE_PASSPHRASE } from '../../../src/image/samples.js';
import { HostCopy } from '../../crash/host-copy.js';
import { Rig, type RigFile } from '../../crash/rig.js';
import { makeImage } from '../../support/creation.js';
import { EncryptedQemu, passwordFile } from '../../support/encrypted.js';
import { needsTool } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { openWritable } from '../../support/written.js';

const MIB = 1024 * 1024;

describe('qcow2: a new image with all its space', () => {
  needsTool('qemu-img');

  for (const how of ['metadata', 'falloc', 'full'] as const) {
    it(`by ${how}`, () => {
      const size = how === 'metadata' ? 600 * MIB + 512 : 3 * MIB;
      const { storage } = makeImage(qcow2, { size });
      preallocateNew(storage, storage, how);
      const files: readonly RigFile[] = [{ name: 'disk.qcow2', role: 'image', storage }];
      const image = new Rig(qcow2, files).open([storage], false);
      const all = [...extents(image)];
      expect(all.every(({ present, data, zero }) => present && data && zero === (how === 'metadata'))).to.equal(true);
      expect(all).to.have.length(1);
      expect(storage.allocated() > image.size).to.equal(how !== 'metadata');
      image.close();
      const host = new HostCopy();
      try {
        expect(host.check(host.put(files, [storage]), 'qcow2')).to.include({ code: 0, leaks: 0 });
      } finally {
        host.dispose();
      }
    });
  }

  const directory = scratch();
  for (const method of ['aes', 'luks'] as const) {
    for (const how of ['metadata', 'falloc', 'full'] as const) {
      it(`by ${how}, encrypted by ${method}: zeros before it is written and after, also for QEMU`, () => {
        const size = 3 * MIB + 512;
        const { storage } = makeImage(qcow2, { size, values: { 'encrypt.format': method, preallocation: how } });
        const image = openWritable(storage);
        const [first, ...more] = [...extents(image)];
        expect(more).to.deep.equal([]);
        expect(first).to.include({ zero: true, data: false, length: size });
        expect(storage.allocated() > size).to.equal(how !== 'metadata');
        const before = storage.size();
        const disk = Buffer.alloc(size).fill(7, 100_000, 300_001);
        image.write(disk.subarray(100_000, 300_001), 100_000);
        image.close();
        expect(storage.size(), 'places were there').to.equal(before);
        const file = directory.path('disk.qcow2');
        fs.writeFileSync(file, storage.bytes());
        const qemu = new EncryptedQemu('qcow2', passwordFile(directory.path('secret'), SAMPLE_PASSPHRASE));
        qemu.expectClean(file);
        expect(qemu.bytes(file).equals(disk)).to.equal(true);
        qemu.io(file, 'write -P 9 1M 100k');
        disk.fill(9, MIB, MIB + 102_400);
        expect(qemu.bytes(file).equals(disk)).to.equal(true);
      });
    }
  }

  it('is refused where zeros cannot be said: encrypted and of version 2', () => {
    const values = { 'encrypt.format': 'aes', compat: '0.10' };
    const made = makeImage(qcow2, { size: MIB, values });
    expect(() => makeImage(qcow2, { values: { ...values, preallocation: 'full' } })).to.throw(/needs compat=1\.1/);
    const image = openWritable(made.storage);
    expect(() => image.resize(2 * MIB, 'falloc')).to.throw(/encrypted and of version 2/);
    image.resize(2 * MIB);
    image.close();
  });
});
