/** Mounts in use: who is named, what is refused, and what --lazy and --timeout do. */
import { type ChildProcess, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { mounts } from '../../src/fuse/mountinfo.js';
import { forEachAdapter } from '../support/adapters.js';
import { eventually, isRunning, itWhere, type Place, place } from '../support/place.js';
import { imgfs, must } from '../support/program.js';
import { needsTool, qemuIo } from '../support/qemu.js';

const MIB = 1024 * 1024;
const notRoot = process.geteuid?.() === 0 ? undefined : 'only root may';
const noFileSystem = spawnSync('mke2fs', ['-V']).error === undefined ? notRoot : 'mke2fs is not installed';

/** A process that does nothing but hold something, from when its line arrives. */
async function holder(here: Place, script: string, cwd?: string): Promise<ChildProcess> {
  const child = here.start('sh', ['-c', `${script}; echo; read line`], cwd);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child;
}

forEachAdapter('a mount in use', (_, option) => {
  needsTool('qemu-img', 'losetup');
  const here = place();
  let image = '';

  before(() => {
    image = here.file('disk.img', Buffer.alloc(4 * MIB));
    if (noFileSystem === undefined) must('mke2fs', '-q', '-F', image);
  });

  /** What imgfs umount says; the mount must stand it. */
  function refusal(at: string): string {
    const { code, stdout, stderr } = imgfs('umount', at);
    expect([code, stdout]).to.deep.equal([1, '']);
    expect(fs.existsSync(path.join(at, 'disk.raw'))).to.equal(true);
    return stderr;
  }

  const hint = 'end that first, or detach it with imgfs umount --lazy';

  it('names the process that works in it or has a file open', async () => {
    const at = here.mount(image, option);
    const inside = await holder(here, 'true', at);
    expect(refusal(at)).to.equal(`imgfs: cannot unmount ${at}: it is in use by sh (pid ${inside.pid}): ${hint}\n`);
    inside.kill();
    const reader = await holder(here, `exec 5< ${at}/disk.raw`);
    await eventually('the first has gone', () => !isRunning(inside.pid ?? 0));
    expect(refusal(at)).to.equal(`imgfs: cannot unmount ${at}: it is in use by sh (pid ${reader.pid}): ${hint}\n`);
    reader.kill();
    await eventually('the second has gone', () => !isRunning(reader.pid ?? 0));
    expect(imgfs('umount', at)).to.include({ code: 0, stderr: '' });
  });

  it('tells on SIGTERM who uses it and goes on; asked again it lets go', async () => {
    const at = here.mountpoint();
    const front = here.startImgfs('mount', '-f', '-r', option, image, at);
    let said = '';
    front.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await eventually('it is live', () => here.isServed(at));
    const reader = await holder(here, `exec 5< ${at}/disk.raw`);
    front.kill('SIGTERM');
    await eventually('it has said so', () => said.includes('signal again'));
    expect(said).to.include(`imgfs: cannot unmount ${at}: it is in use by sh (pid ${reader.pid})`);
    front.kill('SIGTERM');
    await eventually('it is detached', () => !mounts().some(({ mountpoint }) => mountpoint === at));
    expect(front.exitCode).to.equal(null);
    reader.kill();
    await eventually('it has ended', () => front.exitCode !== null);
    expect(front.exitCode).to.equal(0);
  });

  itWhere(notRoot, 'names the loop device, and where that is mounted', () => {
    const at = here.mount(image, option);
    const loop = must('losetup', '-f', '--show', '--read-only', path.join(at, 'disk.raw')).trim();
    expect(refusal(at)).to.equal(`imgfs: cannot unmount ${at}: it is in use by ${loop}: ${hint}\n`);
    must('losetup', '-d', loop);
    expect(imgfs('umount', at)).to.include({ code: 0, stderr: '' });
  });

  itWhere(noFileSystem, 'names where a file system of it is mounted', async () => {
    const [at, inner] = [here.mount(image, option), here.mountpoint()];
    must('mount', '-o', 'loop,ro', path.join(at, 'disk.raw'), inner);
    expect(refusal(at)).to.match(new RegExp(`in use by /dev/loop[0-9]+ \\(mounted on ${inner}\\): ${hint}\n$`));
    must('umount', inner);
    // The loop device lets go a moment later.
    await eventually('nothing uses it', () => imgfs('umount', at).code === 0);
  });

  it('goes out of sight with --lazy, and ends with its last user', async () => {
    const at = here.mount(image, option);
    const { pid } = here.record(at);
    const reader = await holder(here, `exec 5< ${at}/disk.raw`);
    expect(imgfs('umount', '--lazy', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(fs.readdirSync(at)).to.deep.equal([]);
    expect(isRunning(pid)).to.equal(true);
    // A new mount on the same place is another one: ending it does not wait for the old one.
    expect(imgfs('mount', '-r', option, image, at)).to.include({ code: 0 });
    expect(imgfs('umount', at)).to.include({ code: 0, stderr: '' });
    expect(isRunning(pid)).to.equal(true);
    reader.kill();
    await eventually('the process is gone', () => !isRunning(pid));
    const idle = here.mount(image, option);
    expect(imgfs('umount', '-l', idle)).to.include({ code: 0, stderr: '' });
    qemuIo(image, ['write -P 0 1M 1k'], ['-f', 'raw']);
  });

  it('does not hang imgfs umount when its process is stopped', async () => {
    const at = here.mount(image, option);
    const { pid } = here.record(at);
    process.kill(pid, 'SIGSTOP');
    const { code, stderr } = imgfs('umount', '--timeout', '0.3', at);
    expect(code).to.equal(1);
    expect(stderr).to.equal(
      `imgfs: ${at} is unmounted but its process (pid ${pid}) has not ended: the image is not released yet\n`,
    );
    process.kill(pid, 'SIGCONT');
    await eventually('the process is gone', () => !isRunning(pid));
  });
});
