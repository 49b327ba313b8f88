/** From the command that mounts to the moment the image is free again, by every way there is to end it. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { fromDisks } from '../../src/formats/qcow2/samples/image.js';
import { mounts } from '../../src/fuse/mountinfo.js';
import { forEachAdapter } from '../support/adapters.js';
import { eventually, isRunning, itWhere, place } from '../support/place.js';
import { IMGFS, imgfs, must, run } from '../support/program.js';
import { needsTool, qemuIo } from '../support/qemu.js';

const notRoot = process.geteuid?.() === 0 ? undefined : 'only root may';

function isMounted(directory: string): boolean {
  return mounts().some(({ mountpoint }) => mountpoint === directory);
}

forEachAdapter('the life of a mount', ({ name }, option) => {
  needsTool('qemu-io');
  const here = place();
  let image = '';

  before(() => {
    image = here.file('disk.qcow2', fromDisks([{ disk: Buffer.alloc(100_000, 'disk') }]));
  });

  it('returns when it is live, to be written unless it is told otherwise', () => {
    for (const [options, access] of [[[], 'rw'] as const, [['-r'], 'ro'] as const, [['-o', 'ro'], 'ro'] as const]) {
      const at = here.mountpoint();
      expect(imgfs('mount', option, ...options, image, at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      expect(fs.readdirSync(at)).to.include('disk.raw');
      expect(must('findmnt', '-n', '-o', 'OPTIONS', at).split(',')).to.include(access);
      expect(here.record(at).readOnly).to.equal(access === 'ro');
      expect(imgfs('umount', at).code).to.equal(0);
    }
  });

  const ends: readonly (readonly [string, (at: string, pid: number) => unknown])[] = [
    ['umount', (at) => must('umount', at)],
    ['fusermount3 -u', (at) => must('fusermount3', '-u', at)],
    ['SIGTERM', (_, pid) => process.kill(pid, 'SIGTERM')],
    ['SIGINT', (_, pid) => process.kill(pid, 'SIGINT')],
    ['SIGHUP', (_, pid) => process.kill(pid, 'SIGHUP')],
  ];
  for (const [how, end] of ends) {
    it(`ends by ${how}: no mount, no process, no record, no lock`, async () => {
      const at = here.mount(image, option);
      const { pid, log } = here.record(at);
      fs.readFileSync(path.join(at, 'disk.raw'));
      end(at, pid);
      await eventually('the process is gone', () => !isRunning(pid));
      expect(isMounted(at)).to.equal(false);
      expect(() => here.record(at)).to.throw('nobody serves');
      expect(fs.existsSync(log ?? '')).to.equal(false);
      qemuIo(image, ['write -P 100 0 1k']);
    });
  }

  it('has released the image by the time imgfs umount returns', () => {
    for (let n = 0; n < 3; n++) {
      const at = here.mount(image, option, '-r');
      const { pid } = here.record(at);
      expect(imgfs('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      qemuIo(image, [`write -P ${n} 0 1k`]);
      expect(isRunning(pid)).to.equal(false);
      expect(isMounted(at)).to.equal(false);
    }
  });

  it('ends several mounts at one command, those it can', () => {
    const [one, two] = [here.mount(image, option), here.mount(image, option)];
    const ended = imgfs('umount', one, here.path('absent'), two);
    expect(ended.code).to.equal(1);
    expect(ended.stderr).to.equal(`imgfs: cannot use the mountpoint ${here.path('absent')}: no such file\n`);
    expect([isMounted(one), isMounted(two)]).to.deep.equal([false, false]);
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`in front it stays until ${signal}, and exits 0`, async () => {
      const at = here.mountpoint();
      const front = here.startImgfs('mount', '-f', option, image, at);
      await eventually('it is live', () => here.isServed(at));
      expect(here.record(at).pid).to.equal(front.pid);
      expect(front.exitCode).to.equal(null);
      front.kill(signal);
      await eventually('it has ended', () => front.exitCode !== null);
      expect([front.exitCode, isMounted(at)]).to.deep.equal([0, false]);
    });
  }

  it('with -d tells every request, in front', async () => {
    const at = here.mountpoint();
    const front = here.startImgfs('mount', '-d', option, image, at);
    let text = '';
    front.stderr?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await eventually('it is live', () => here.isServed(at));
    must('cat', path.join(at, 'disk.raw'));
    must('umount', at);
    await eventually('it has ended', () => front.exitCode !== null);
    for (const request of ['open', 'read']) expect(text.toLowerCase()).to.include(request);
    expect(front.exitCode).to.equal(0);
  });

  it('killed, it leaves a dead mount that the next mount clears', async () => {
    const at = here.mount(image, option);
    const { pid } = here.record(at);
    process.kill(pid, 'SIGKILL');
    await eventually('the process is gone', () => !isRunning(pid));
    expect(() => fs.readdirSync(at)).to.throw(/ENOTCONN/);
    const listed = JSON.parse(imgfs('list', '--json').stdout) as { mounts: { mountpoint: string; state: string }[] };
    expect(listed.mounts.find(({ mountpoint }) => mountpoint === at)).to.include({ state: 'dead' });
    expect(imgfs('mount', option, '-r', image, at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(fs.readdirSync(at)).to.include('disk.raw');
    expect(imgfs('umount', at).code).to.equal(0);
    expect(isMounted(at)).to.equal(false);
  });

  it('killed, it leaves a dead mount that imgfs umount clears, with its log', async () => {
    const at = here.mount(image, option);
    const { pid, log } = here.record(at);
    process.kill(pid, 'SIGKILL');
    await eventually('the process is gone', () => !isRunning(pid));
    expect(imgfs('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(isMounted(at)).to.equal(false);
    expect(fs.existsSync(log ?? '')).to.equal(false);
    qemuIo(image, ['write -P 1 0 1k']);
  });

  it('ends with a bug that nobody caught, and hangs nobody', async () => {
    const bug = here.file('bug.mjs', `process.on('SIGUSR2', () => { throw new Error('a bug'); });`);
    const at = here.mountpoint();
    const env = { NODE_OPTIONS: `--import=${bug}` };
    expect(run(process.execPath, [IMGFS, 'mount', '-r', option, image, at], { env }).code).to.equal(0);
    const { pid, log = '' } = here.record(at);
    const open = fs.openSync(path.join(at, 'disk.raw'), 'r');
    process.kill(pid, 'SIGUSR2');
    await eventually('the process is gone', () => !isRunning(pid));
    try {
      fs.closeSync(open);
    } catch {
      // Nobody is left to be told that it is closed.
    }
    expect(isMounted(at)).to.equal(false);
    expect(fs.readFileSync(log, 'utf8')).to.match(/ imgfs: internal error: a bug\n.* Error: a bug\n +at /);
    fs.rmSync(log);
  });

  it('interrupted before it is live, it leaves nothing', async () => {
    for (const delay of [50, 100, 150, 200, 250]) {
      const at = here.mountpoint();
      const command = here.startImgfs('mount', option, image, at);
      await new Promise((resolve) => setTimeout(resolve, delay));
      command.kill('SIGINT');
      await eventually('it has ended', () => command.exitCode !== null || command.signalCode !== null);
      if (command.exitCode === 0) expect(imgfs('umount', at).code).to.equal(0);
      await eventually('no mount is left', () => !isMounted(at));
      await eventually('no lock is left', () => run('qemu-io', ['-f', 'qcow2', '-c', 'quit', image]).code === 0);
    }
  });

  it('is listed with its process, for people and for programs', () => {
    const at = here.mount(image, option);
    const { pid, log } = here.record(at);
    const { mounts: listed } = JSON.parse(imgfs('list', '--json').stdout) as { mounts: Record<string, unknown>[] };
    const mine = listed.find(({ mountpoint }) => mountpoint === at);
    expect(mine).to.include({ pid, adapter: name, log, state: 'live' });
    expect(mine?.images).to.deep.equal([image]);
    const line = imgfs('list')
      .stdout.split('\n')
      .find((text) => text.startsWith(at));
    expect(line?.split(/ +/)).to.deep.equal([at, String(pid), name, image]);
  });

  it('keeps its failures in the log, which outlives it', () => {
    const broken = Buffer.from(fromDisks([{ disk: Buffer.alloc(400_000, 'disk') }]));
    // The first entry of the only L2 table points between two clusters.
    const l2 = Number(broken.readBigUInt64BE(Number(broken.readBigUInt64BE(40))) % 2n ** 56n);
    broken.writeBigUInt64BE(2n ** 63n + 512n, l2);
    const at = here.mount(here.file('broken.qcow2', broken), option);
    const { log = '' } = here.record(at);
    const view = path.join(at, 'disk.raw');
    expect(run('dd', [`if=${view}`, 'of=/dev/null', 'bs=64k', 'count=1']).stderr).to.include('Input/output error');
    expect(run('dd', [`if=${view}`, 'bs=64k', 'skip=1', 'status=none']).stdout).to.equal(
      Buffer.alloc(400_000, 'disk').toString('latin1', 65536),
    );
    expect(imgfs('umount', at).code).to.equal(0);
    expect(fs.readFileSync(log, 'utf8')).to.match(/broken\.qcow2/);
    fs.rmSync(log);
  });

  itWhere(notRoot, 'survives in a bind mount until that is gone too', () => {
    const [at, bound] = [here.mount(image, option), here.mountpoint()];
    const { pid } = here.record(at);
    must('mount', '--bind', at, bound);
    expect(imgfs('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(fs.readdirSync(bound)).to.include('disk.raw');
    expect(imgfs('umount', bound)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(isRunning(pid)).to.equal(false);
  });
});
