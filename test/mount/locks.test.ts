/** QEMU and imgfs keep out of each other's way: its locks on the image and on every file below it, both ways. */
import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { forEachAdapter } from '../support/adapters.js';
import { eventually, type Place, place } from '../support/place.js';
import { imgfs, run } from '../support/program.js';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';

/** A virtual machine, as far as locks go: holds the image open for writing until it is killed. */
async function writer(here: Place, image: string): Promise<ChildProcess> {
  const child = here.start('qemu-io', ['-f', 'qcow2', image]);
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stdin?.write('write -P 7 0 1k\n');
  await eventually('QEMU writes', () => said.includes('wrote 1024/1024'));
  return child;
}

function canWrite(image: string): boolean {
  return run('qemu-io', ['-f', 'qcow2', '-c', 'write 0 512', image]).code === 0;
}

forEachAdapter('locks', (_, option) => {
  needsTool('qemu-img', 'qemu-io');
  const here = place();
  let base = '';
  let top = '';

  before(() => {
    [base, top] = [here.path('base.qcow2'), here.path('top.qcow2')];
    qemuImg('create', '-q', '-f', 'qcow2', base, '4M');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top);
    qemuIo(base, ['write -P 5 1M 1M']);
  });

  it('refuse an image that a virtual machine writes, by name and process', async () => {
    const machine = await writer(here, top);
    const at = here.mountpoint();
    expect(imgfs('mount', option, top, at)).to.deep.equal({
      ...{ code: 1, stdout: '' },
      stderr:
        `imgfs: ${top} is in use: qemu-io (pid ${machine.pid}) has it open for writing: ` +
        'stop that process, or read anyway with --force-share\n',
    });
    machine.kill();
    await eventually('the lock is gone', () => imgfs('mount', '-r', option, top, at).code === 0);
  });

  it('let --force-share read it, seeing what is written later', async () => {
    const machine = await writer(here, base);
    const at = here.mount(base, option, '--force-share');
    const view = path.join(at, 'disk.raw');
    expect(fs.readFileSync(view)[0]).to.equal(7);
    machine.stdin?.write('write -P 8 1M 64k\n');
    await eventually('the new bytes are seen', () => fs.readFileSync(view)[1024 * 1024] === 8);
  });

  it('refuse a chain whose base is written', async () => {
    const machine = await writer(here, base);
    const { code, stderr } = imgfs('mount', option, top, here.mountpoint());
    expect(code).to.equal(1);
    expect(stderr).to.include(`${base} is in use: qemu-io (pid ${machine.pid}) has it open for writing`);
  });

  it('keep writers out while it is mounted, of the base too, and let readers in', () => {
    const at = here.mount(top, option);
    expect([canWrite(top), canWrite(base)]).to.deep.equal([false, false]);
    expect(run('qemu-io', ['-r', '-f', 'qcow2', '-c', 'read 0 512', top]).code).to.equal(0);
    expect(run('qemu-img', ['info', top]).code).to.equal(0);
    expect(imgfs('mount', '-r', option, top, here.mountpoint()).code).to.equal(0);
    expect(imgfs('umount', at).code).to.equal(0);
    expect(canWrite(top)).to.equal(false);
  });

  it('keep a new image from taking the place of one that is mounted, or of its base', () => {
    for (const options of [[], ['-r', '--force-share']]) {
      const at = here.mount(top, option, ...options);
      const { code, stderr } = imgfs('create', '-f', 'qcow2', top, '1M');
      expect({ code, stderr }).to.deep.equal({
        code: 1,
        stderr: `imgfs: ${top} is mounted on ${at}: end that with imgfs umount ${at}\n`,
      });
      const shared = options.includes('--force-share');
      if (!shared) expect(imgfs('create', '-f', 'qcow2', base, '1M').stderr).to.include(`${base} is in use by`);
      expect(imgfs('umount', at).code).to.equal(0);
    }
    expect(canWrite(top)).to.equal(true);
  });

  it('end with the mount', () => {
    const at = here.mount(top, option);
    expect(imgfs('umount', at).code).to.equal(0);
    expect([canWrite(top), canWrite(base)]).to.deep.equal([true, true]);
  });

  it('of a QEMU on the views themselves are taken', () => {
    const view = path.join(here.mount(base, option), 'disk.raw');
    expect(run('qemu-io', ['-r', '-f', 'raw', '-c', 'read -P 0 3M 512', view]).code).to.equal(0);
    expect(run('qemu-img', ['compare', '-f', 'raw', '-F', 'qcow2', view, base]).code).to.equal(0);
  });
});
