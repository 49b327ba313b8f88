import fs from 'node:fs';
import { expect } from 'chai';
import { needsTool, qemuBytes, qemuImg, qemuIo, settle } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs, imgfsJson } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

const MIB = 2 ** 20;

describe('imgfs trim', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  for (const format of ['qcow2', 'vdi', 'raw']) {
    it(`${format}: what is told beforehand is what is given back`, () => {
      const file = at(`disk.${format}`);
      qemuImg('create', '-q', '-f', format, file, '32M');
      qemuIo(file, ['write -P 1 0 12M', 'write -P 0 4M 4M', 'write -P 0 20M 2M'], ['-f', format]);
      settle(file);
      const before = qemuBytes(file, '-f', format);
      const allocated = fs.statSync(file).blocks * 512;
      expect(imgfsJson(['trim', '-f', format, '--dry-run', '--json', file])).to.include({
        schema: 'imgfs.trim/1',
        'dry-run': true,
        found: 6 * MIB,
        freed: 0,
      });
      expect(fs.statSync(file).blocks * 512).to.equal(allocated);
      const { code, stdout, stderr } = imgfs(['trim', '-f', format, file]);
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
      expect(stdout).to.match(/disk\.\w+: 6 MiB \(6291456 bytes\) of stored zeros given back; it takes [^\n]* less\n$/);
      expect(fs.statSync(file).blocks * 512).to.be.lessThan(allocated - 5.5 * MIB);
      expect(qemuBytes(file, '-f', format).equals(before)).to.equal(true);
      expect(imgfs(['trim', '-f', format, '-n', file]).stdout).to.match(/: 0 bytes of stored zeros could be/);
    });
  }

  it('only where nobody else writes; looking is as careful', async () => {
    const file = at('used.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', file, '1M');
    const session = await QemuSession.open('-f', 'qcow2', file);
    try {
      for (const args of [[], ['-n']]) {
        const { code, stderr } = imgfs(['trim', ...args, file]);
        expect(stderr).to.match(/^imgfs: [^\n]*in use[^\n]*\n$/);
        expect(code).to.equal(1);
      }
    } finally {
      await session.close();
    }
    expect(imgfs(['trim']).code).to.equal(2);
  });
});
