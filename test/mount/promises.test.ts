/** What is durable when, by caching mode; flushes that fail; a thread that dies while it holds the image's lock. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { mounts } from '../../src/fuse/mountinfo.js';
import { CACHES, type CacheMode } from '../../src/mount/options.js';
import { forEachAdapter } from '../support/adapters.js';
import { HostCalls } from '../support/host-calls.js';
import { eventually, isRunning, itWhere, place } from '../support/place.js';
import { IMGFS, imgfs, must, run } from '../support/program.js';
import { needsTool, qemuBytes, qemuImg, qemuIo } from '../support/qemu.js';

const MIB = 1024 * 1024;
const O_DIRECT = 0o40000;

/** Which calls make what was written durable, by mode: each write, or only what asks for it, or nothing. */
const DURABLE: Readonly<Record<CacheMode, 'each write' | 'fsync' | 'never'>> = {
  writeback: 'fsync',
  writethrough: 'each write',
  none: 'fsync',
  directsync: 'each write',
  unsafe: 'never',
};

forEachAdapter('a promise about writes', ({ can }, option) => {
  needsTool('qemu-img', 'qemu-io');
  const here = place();
  let count = 0;

  function image(format: 'qcow2' | 'raw'): string {
    count += 1;
    const file = here.path(`disk-${count}.${format}`);
    qemuImg('create', '-q', '-f', format, file, '8M');
    return file;
  }

  function mounted(calls: HostCalls, ...args: readonly string[]): string {
    const at = here.mountpoint();
    const { code, stderr } = run(process.execPath, [IMGFS, 'mount', option, '-o', 'rw', ...args, at], {
      env: calls.env,
    });
    expect([code, stderr]).to.deep.equal([0, '']);
    return at;
  }

  function opensDirect(pid: number, file: string): boolean {
    const fd = fs.readdirSync(`/proc/${pid}/fd`).find((one) => fs.readlinkSync(`/proc/${pid}/fd/${one}`) === file);
    const flags = /^flags:\s*([0-7]+)/m.exec(fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';
    return Math.floor(Number.parseInt(flags, 8) / O_DIRECT) % 2 === 1;
  }

  for (const mode of Object.keys(CACHES) as CacheMode[]) {
    for (const format of ['raw', 'qcow2'] as const) {
      it(`--cache ${mode}, ${format}: ${DURABLE[mode] === 'never' ? 'nothing' : `${DURABLE[mode]} before its answer`} is durable`, () => {
        const file = image(format);
        const calls = new HostCalls(here, file);
        const at = mounted(calls, `--cache=${mode}`, file);
        expect(opensDirect(here.record(at).pid, file)).to.equal(CACHES[mode].direct);
        const fd = fs.openSync(path.join(at, 'disk.raw'), 'r+');
        calls.take();
        /** What was done, at least one write among it, ends with a flush or has none. */
        const expectDurable = (durable: boolean, what: string): void => {
          const done = calls.take();
          if (durable) expect(done.at(-1), what).to.equal('flush');
          else expect(done, what).not.to.include('flush');
        };
        for (const [n, from] of [0, MIB, 512, 5 * MIB - 700].entries()) {
          fs.writeSync(fd, Buffer.alloc(4096, n + 1), 0, 4096, from);
          // Space for a cluster is set aside, durably, before anything points there.
          if (format === 'raw' || DURABLE[mode] !== 'fsync')
            expectDurable(DURABLE[mode] === 'each write', `write ${n}`);
        }
        if (can.punchesHoles) {
          must('fallocate', '-p', '-o', String(MIB), '-l', '65536', path.join(at, 'disk.raw'));
          if (DURABLE[mode] !== 'fsync') expectDurable(DURABLE[mode] === 'each write', 'a hole');
        }
        fs.writeSync(fd, Buffer.alloc(4096, 9), 0, 4096, 6 * MIB);
        calls.take();
        fs.fsyncSync(fd);
        expectDurable(DURABLE[mode] !== 'never', 'fsync');
        fs.closeSync(fd);
        expect(imgfs('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
        expectDurable(DURABLE[mode] !== 'never', 'the end');
        const disk = qemuBytes(file, '-f', format);
        expect([0, 512, 4608, 5 * MIB, 6 * MIB].map((from) => disk[from])).to.deep.equal([1, 3, 0, 4, 9]);
      });
    }
  }

  it('a flush that fails at the end is told by imgfs umount, and once', () => {
    const file = image('qcow2');
    const calls = new HostCalls(here, file);
    const at = mounted(calls, file);
    fs.writeFileSync(path.join(at, 'disk.raw'), 'lost, perhaps', { flag: 'r+' });
    const { log = '' } = here.record(at);
    calls.let('fail');
    const told = imgfs('umount', at);
    expect(told).to.deep.equal({ code: 1, stdout: '', stderr: `imgfs: cannot flush ${file}: input/output error\n` });
    expect(fs.readFileSync(log, 'utf8')).to.include(`cannot flush ${file}`);
    fs.rmSync(log);
    expect(mounts().some(({ mountpoint }) => mountpoint === at)).to.equal(false);
    expect(imgfs('umount', at).stderr).to.match(/there is no imgfs mount on/);
    expect(run('qemu-img', ['check', '-q', file]).code).to.be.oneOf([0, 3]);
  });

  it('a flush that failed once fails every later write and flush, and imgfs umount', () => {
    const file = image('qcow2');
    qemuIo(file, ['write -P 65 0 1M']);
    const calls = new HostCalls(here, file);
    const at = mounted(calls, file);
    const fd = fs.openSync(path.join(at, 'disk.raw'), 'r+');
    fs.writeSync(fd, 'one', 0);
    calls.let('fail');
    expect(() => fs.fsyncSync(fd)).to.throw(/EIO/);
    calls.mend();
    expect(() => fs.fsyncSync(fd)).to.throw(/EIO/);
    expect(() => fs.writeSync(fd, 'two', 0)).to.throw(/EIO/);
    expect(() => fs.closeSync(fd)).to.throw(/EIO/);
    const view = path.join(at, 'disk.raw');
    expect(run('dd', [`if=${view}`, 'bs=4', 'count=1', 'status=none']).stdout).to.equal('oneA');
    const { log = '' } = here.record(at);
    const { code, stderr } = imgfs('umount', at);
    expect([code, stderr.split('\n').length]).to.deep.equal([1, 2]);
    expect(stderr).to.match(
      /^imgfs: the image is not written any more: .*(cannot flush|earlier flush failed).*: end its use and check it$/m,
    );
    fs.rmSync(log);
    expect(run('qemu-img', ['check', '-q', file]).code).to.be.oneOf([0, 3]);
  });

  for (const workers of [1, 4]) {
    const reason = can.threads ? undefined : 'the adapter has no threads';
    itWhere(reason, `a thread of ${workers} that dies in a write ends the mount as kill -9 would`, async () => {
      const file = image('qcow2');
      const calls = new HostCalls(here, file);
      const at = mounted(calls, `--workers=${workers}`, file);
      const view = path.join(at, 'disk.raw');
      const kept = fs.openSync(view, 'r+');
      fs.writeSync(kept, 'kept', 0);
      fs.fsyncSync(kept);
      const { pid, log = '' } = here.record(at);
      calls.let('die');
      // Others wait for the lock meanwhile, and must not wait for ever.
      const others = Array.from({ length: 4 }, (_, n) =>
        here.start('dd', ['if=/dev/zero', `of=${view}`, 'bs=64k', `seek=${8 + n}`, 'count=8', 'conv=notrunc']),
      );
      await eventually('the server is gone', () => !isRunning(pid));
      await eventually('nobody waits', () => others.every(({ exitCode }) => exitCode !== null));
      expect(others.some(({ exitCode }) => exitCode !== 0)).to.equal(true);
      expect(() => fs.writeSync(kept, 'x', 0)).to.throw(/ENOTCONN|EIO|ECONNABORTED/);
      try {
        fs.closeSync(kept);
      } catch {
        // Nobody is left to be told that it is closed.
      }
      expect(mounts().some(({ mountpoint }) => mountpoint === at)).to.equal(false);
      expect(fs.readFileSync(log, 'utf8')).to.match(/a data worker died, its request fails: its thread ended with 7/);
      fs.rmSync(log);
      expect(run('qemu-img', ['check', '-q', file]).code).to.be.oneOf([0, 3]);
      expect(qemuBytes(file, '-f', 'qcow2').toString('latin1', 0, 4)).to.equal('kept');
      const again = here.mountToWrite(file, option);
      expect(imgfs('umount', again)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      expect(run('qemu-img', ['check', '-q', file]).code).to.be.oneOf([0, 3]);
    });
  }
});
