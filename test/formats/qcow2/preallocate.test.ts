import { expect } from 'chai';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { preallocateNew } from '../../../src/formats/qcow2/write/preallocate.js';
import { extents } from '../../../src/image/image.js';
import { HostCopy } from '../../crash/host-copy.js';
import { Rig, type RigFile } from '../../crash/rig.js';
import { makeImage } from '../../support/creation.js';
import { needsTool } from '../../support/qemu.js';

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
});
