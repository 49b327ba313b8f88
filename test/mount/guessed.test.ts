/** A file that is raw only because nothing else claims it: its guest cannot make another format of it. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { SampleImage } from '../../src/formats/qcow2/samples/image.js';
import { alignedBuffer } from '../../src/lib/aligned.js';
import { systemCode } from '../../src/lib/errors.js';
import { forEachAdapter } from '../support/adapters.js';
import { place } from '../support/place.js';
import { imgfs } from '../support/program.js';
import { needsTool, qemuImgJson } from '../support/qemu.js';

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;

/** How a write at `at` went: `done`, or the errno's name. */
function written(view: string, at: number, bytes: Uint8Array, flags = 0): string | undefined {
  const fd = fs.openSync(view, fs.constants.O_RDWR + flags);
  try {
    fs.writeSync(fd, bytes, 0, bytes.length, at);
    return 'done';
  } catch (error) {
    return systemCode(error);
  } finally {
    fs.closeSync(fd);
  }
}

function aligned(bytes: Uint8Array): Uint8Array {
  const buffer = alignedBuffer(bytes.length, 0);
  buffer.set(bytes);
  return buffer;
}

forEachAdapter('mounted-raw-cannot-become-qcow2', (_adapter, option) => {
  needsTool('qemu-img');
  const here = place();
  const header = Buffer.from(new SampleImage({ size: MIB }).build()).subarray(0, 4096);
  const footer = Buffer.alloc(512);
  footer.write('conectix');
  const { O_DIRECT, O_SYNC } = fs.constants;

  function disk(name = 'disk.img'): string {
    const file = here.path(name);
    fs.writeFileSync(file, Buffer.alloc(SIZE));
    return file;
  }

  function formatOf(file: string): unknown {
    return (qemuImgJson('info', '--output=json', file) as { readonly format: string }).format;
  }

  for (const cache of ['writeback', 'none']) {
    it(`refuses what would be a header or a footer, however it is written (--cache ${cache})`, () => {
      const file = disk();
      const at = here.mountToWrite(file, option, `--cache=${cache}`);
      const view = path.join(at, 'disk.raw');
      for (const flags of [0, O_SYNC, O_DIRECT]) {
        expect(written(view, 0, aligned(header), flags)).to.equal('EPERM');
        expect(written(view, SIZE - 512, aligned(footer), flags)).to.equal('EPERM');
      }
      // Half of it says nothing yet; the other half does.
      expect(written(view, 4, header.subarray(4))).to.equal('done');
      expect(written(view, 0, header.subarray(0, 4))).to.equal('EPERM');
      // In the middle nobody looks for anything.
      expect(written(view, MIB, header)).to.equal('done');
      expect(written(view, SIZE - 2048, footer)).to.equal('done');
      expect(fs.readFileSync(view).subarray(0, 4).equals(Buffer.alloc(4))).to.equal(true);
      expect(imgfs('umount', at).code).to.equal(0);
      expect(fs.readFileSync(file).subarray(0, 4).equals(Buffer.alloc(4))).to.equal(true);
      expect(formatOf(file)).to.equal('raw');
    });
  }

  it('refuses it after the disk has grown, and a length that makes a footer of what it holds', () => {
    const file = disk();
    const at = here.mountToWrite(file, option);
    const view = path.join(at, 'disk.raw');
    fs.truncateSync(view, SIZE + MIB);
    expect(written(view, 0, header)).to.equal('EPERM');
    expect(written(view, SIZE + MIB - 512, footer)).to.equal('EPERM');
    expect(written(view, SIZE + MIB - 256, footer.subarray(0, 256))).to.equal('done');
    expect(() => fs.truncateSync(view, SIZE + MIB + 256)).to.throw(/EPERM/);
    expect(fs.statSync(view).size).to.equal(SIZE + MIB);
    expect(imgfs('umount', at).code).to.equal(0);
    expect(imgfs('resize', file, '+256').stderr).to.match(/^imgfs: .* would look like vhd after this change: .*\n$/);
    expect(fs.statSync(file).size).to.equal(SIZE + MIB);
    expect(formatOf(file)).to.equal('raw');
  });

  it('lets everything be written where the user says that it is raw', () => {
    const file = disk();
    const at = here.mountToWrite(file, option, '--format=raw');
    expect(written(path.join(at, 'disk.raw'), 0, header)).to.equal('done');
    expect(imgfs('umount', at).code).to.equal(0);
    expect(fs.readFileSync(file).subarray(0, 4096).equals(header)).to.equal(true);
  });
});
