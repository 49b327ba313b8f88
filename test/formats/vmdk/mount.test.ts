/** Disks of several files in a real mount: read and written from anywhere, by several threads at once. */
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { kernel } from '../../../src/fuse/kernel/index.js';
import { needsRoot, place, unless } from '../../support/place.js';
import { imgfs } from '../../support/program.js';
import { needsTool, qemuBytes, qemuImg } from '../../support/qemu.js';
import { Random, SEED } from '../../support/seed.js';
import { AS_VMDK, findings, KINDS, MIB, make } from './disks.js';

const SIZE = 9 * MIB;
/** Neighbours share a grain at each end. */
const SHARE = 2 * MIB + 5 * 4096;
const WRITERS = 4;

describe('vmdk: mounted', function () {
  this.timeout(120_000);
  needsRoot();
  unless(kernel.unavailable());
  needsTool('qemu-img');
  const here = place();

  /** Several processes write their shares of `disk` at the same time. */
  async function writeTogether(disk: Buffer, view: string): Promise<void> {
    const source = here.file('source', disk);
    const writers = Array.from({ length: WRITERS }, (_, n) => {
      const blocks = Math.ceil(SHARE / 4096);
      const args = [
        `if=${source}`,
        `of=${view}`,
        'bs=4k',
        `count=${blocks}`,
        `seek=${n * blocks}`,
        `skip=${n * blocks}`,
      ];
      return once(here.start('dd', [...args, 'conv=notrunc,fsync', 'status=none']), 'exit');
    });
    for (const [code] of await Promise.all(writers)) expect(code).to.equal(0);
  }

  for (const [name, options] of Object.entries(KINDS)) {
    it(`written by several at once: ${name}`, async () => {
      fs.mkdirSync(here.path('folder'), { recursive: true });
      const file = here.path(`folder/${name.replace(/\W+/g, '-')}.vmdk`);
      make(file, SIZE, options);
      const at = here.mountToWrite(file, '--workers', '4');
      const disk = new Random(SEED).bytes(SIZE);
      disk.fill(0, SHARE * WRITERS);
      await writeTogether(disk, path.join(at, 'disk.raw'));
      expect(fs.readFileSync(path.join(at, 'disk.raw')).equals(disk)).to.equal(true);
      expect(imgfs('umount', at).code).to.equal(0);
      expect(qemuBytes(file, ...AS_VMDK).equals(disk)).to.equal(true);
      qemuImg('check', ...AS_VMDK, file);
      expect(findings(file)).to.deep.equal([]);
    });
  }

  it('a delta above a split disk, and what cannot be written read-only with its reason', async () => {
    fs.mkdirSync(here.path('chain'), { recursive: true });
    const [base, top] = [here.path('chain/base.vmdk'), here.path('chain/top.vmdk')];
    make(base, SIZE, { subformat: 'twoGbMaxExtentSparse' });
    make(top, SIZE, {}, 'base.vmdk');
    const before = fs.readFileSync(here.path('chain/base-s001.vmdk'));
    const at = here.mountToWrite(top, '--workers', '4');
    const disk = new Random(SEED).bytes(SIZE).fill(0, SHARE * WRITERS);
    await writeTogether(disk, path.join(at, 'disk.raw'));
    expect(fs.readdirSync(path.join(at, 'layers'))).to.deep.equal(['0-base.raw', '1-top.raw']);
    expect(imgfs('umount', at).code).to.equal(0);
    expect(qemuBytes(top, ...AS_VMDK).equals(disk)).to.equal(true);
    expect(fs.readFileSync(here.path('chain/base-s001.vmdk')).equals(before)).to.equal(true);
    const stream = here.path('chain/stream.vmdk');
    qemuImg('convert', ...AS_VMDK, '-O', 'vmdk', '-o', 'subformat=streamOptimized', top, stream);
    const mountpoint = here.mountpoint();
    const { code, stderr } = imgfs('mount', stream, mountpoint);
    expect({ code, stderr })
      .to.have.property('stderr')
      .that.matches(/read-only: .*stream optimized/);
    expect(code).to.equal(0);
    expect(fs.readFileSync(path.join(mountpoint, 'disk.raw')).equals(disk)).to.equal(true);
  });
});
