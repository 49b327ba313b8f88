import { symlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'chai';
import { kernel } from '../../../src/fuse/kernel/index.js';
import type { Job } from '../../support/adapter-process.js';
import { Mounted, mountEntry, mountpoint, type Outcome, program } from '../../support/mounted.js';
import {
  BIG_ALLOCATED,
  BIG_SIZE,
  fillPattern,
  INODES,
  MTIME_NANOSECONDS,
  MTIME_SECONDS,
} from '../../support/served.js';

const MODULE = new URL('../../../src/fuse/kernel/index.js', import.meta.url).href;

/** Why mounts cannot be tried here; undefined when they can. */
const obstacle = process.geteuid?.() !== 0 ? 'not root' : kernel.unavailable();

function pattern(at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  fillPattern(bytes, at);
  return bytes;
}

describe(`kernel adapter mounts${obstacle === undefined ? '' : ` (skipped: ${obstacle})`}`, function () {
  this.timeout(20_000);
  let clear: (() => Promise<void>)[] = [];

  before(function () {
    if (obstacle !== undefined) this.skip();
  });

  afterEach(async () => {
    for (const end of clear.reverse()) await end();
    clear = [];
  });

  async function mount(job: Partial<Job> = {}): Promise<Mounted> {
    const at = mountpoint(job.mountpointKind ?? 'directory');
    clear.push(async () => at.remove());
    const mounted = await Mounted.start(MODULE, 'kernel', { ...job, mountpoint: at.path });
    clear.push(() => mounted.clear());
    return mounted;
  }

  const stat = async (format: string, path: string): Promise<string> =>
    (await program('stat', '-c', format, path)).stdout.toString().trim();

  const dd = (file: string, ...operands: readonly string[]): Promise<Outcome> =>
    program('dd', `if=${file}`, 'status=none', ...operands);

  /** Log lines come from another process, after what they tell of. */
  async function logged(mounted: Mounted, wanted: number, prefix: string): Promise<readonly string[]> {
    const found = (): readonly string[] => mounted.logs.filter((line) => line.startsWith(prefix));
    for (let wait = 0; wait < 100 && found().length < wanted; wait++) await setTimeout(10);
    return found();
  }

  it('shows type, source and options in the mount table', async () => {
    const { path } = await mount({ source: '/images/a b,c\\d.qcow2', readOnly: true, allowOther: true });
    const [source, , type, options] = mountEntry(path) ?? [];
    expect(source).to.equal('/images/a\\040b,c\\134d.qcow2');
    expect(type).to.equal('fuse.imgfs');
    expect(options?.split(',')).to.include.members([
      'ro',
      'nosuid',
      'nodev',
      'default_permissions',
      'allow_other',
      'max_read=262144',
    ]);
  });

  it('keeps to itself and writable unless told otherwise, and shows the end of a source far too long', async () => {
    const { path } = await mount({ source: `/${'x,\u00fc'.repeat(2000)}end.qcow2` });
    const [source, , type, options] = mountEntry(path) ?? [];
    expect(source).to.match(/^\.\.\..*end\.qcow2$/);
    expect(type).to.equal('fuse.imgfs');
    expect(options).to.include('rw,nosuid,nodev').and.include('default_permissions').and.not.include('allow_other');
  });

  it('lists, and shows exact sizes, blocks, inodes and times', async () => {
    const { path } = await mount();
    const listed = (await program('ls', '-1a', path)).stdout.toString().trim().split('\n');
    expect(listed).to.have.members(['.', '..', 'big.raw', 'small.raw', 'broken.raw', 'bug.raw', 'folder']);
    expect(await stat('%s %b %B %i %a %h %o', `${path}/big.raw`)).to.equal(
      `${BIG_SIZE} ${Math.ceil(BIG_ALLOCATED / 512)} 512 ${INODES.big} 644 1 65536`,
    );
    expect(await stat('%.9Y', `${path}/big.raw`)).to.equal(`${MTIME_SECONDS}.0${MTIME_NANOSECONDS}`);
    expect(await stat('%F %i', `${path}/folder`)).to.equal(`directory ${INODES.folder}`);
    expect((await program('ls', '-ia', `${path}/folder`)).stdout.toString().split(/\s+/)).to.include.members([
      String(INODES.inside),
      'inside.raw',
    ]);
    expect((await program('stat', `${path}/nothing`)).stderr).to.include('No such file');
  });

  it('shows space past 32 bits', async () => {
    const { path } = await mount();
    const { stdout } = await program('stat', '-f', '-c', '%s %S %b %f', path);
    expect(stdout.toString().trim()).to.equal(`65536 65536 ${2 ** 34} ${2 ** 33}`);
  });

  it('reads the right bytes at odd places, past 2 and 4 GiB, and to the end', async () => {
    const { path } = await mount();
    const file = `${path}/big.raw`;
    for (const at of [0, 1, 511, 2 ** 31 - 4096, 2 ** 32 - 4095, 2 ** 32 + 12_288]) {
      const { stdout } = await dd(file, 'bs=8191', 'count=1', 'iflag=skip_bytes,fullblock', `skip=${at}`);
      expect(stdout.equals(pattern(at, 8191)), `at ${at}`).to.equal(true);
    }
    const tail = await program('tail', '-c', '20000', file);
    expect(tail.stdout.equals(pattern(BIG_SIZE - 20_000, 20_000))).to.equal(true);
    expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
  });

  it('reads past the page cache, the last partial block included', async () => {
    const { path } = await mount();
    const last = Math.floor(BIG_SIZE / 4096);
    const { stdout } = await dd(`${path}/big.raw`, 'bs=4096', 'count=2', 'iflag=direct', `skip=${last}`);
    expect(stdout.equals(pattern(last * 4096, BIG_SIZE - last * 4096))).to.equal(true);
    expect(
      (await dd(`${path}/big.raw`, 'bs=4096', 'count=1', 'iflag=direct', `skip=${last + 1}`)).stdout.length,
    ).to.equal(0);
  });

  it('reads in requests of 256 KiB, ahead too', async () => {
    const mounted = await mount({ trace: true });
    const file = `${mounted.path}/big.raw`;
    expect((await dd(file, 'bs=1M', 'count=4', 'iflag=direct')).stdout.equals(pattern(0, 2 ** 22))).to.equal(true);
    expect(await logged(mounted, 16, 'READ ')).to.have.members(
      Array.from({ length: 16 }, (_, n) => `READ ino ${INODES.big} at ${n * 2 ** 18} size 262144: 262144 bytes`),
    );
    expect((await dd(file, 'bs=4k', 'count=2048')).stdout.equals(pattern(0, 2 ** 23))).to.equal(true);
    expect((await logged(mounted, 48, 'READ ')).length).to.be.within(48, 60);
  });

  it('traces one line per request, and nothing when not asked to', async () => {
    const traced = await mount({ trace: true });
    await program('cat', `${traced.path}/small.raw`);
    expect(await logged(traced, 1, 'LOOKUP')).to.deep.equal(['LOOKUP ino 1 "small.raw": 128 bytes']);
    expect(await logged(traced, 1, 'READ')).to.deep.equal([`READ ino ${INODES.small} at 0 size 4096: 6 bytes`]);
    const quiet = await mount();
    await program('cat', `${quiet.path}/small.raw`);
    expect(quiet.logs).to.deep.equal([]);
  });

  it('serves sixteen readers at once', async () => {
    const { path } = await mount();
    const readers = Array.from({ length: 16 }, async (_, n) => {
      const { stdout } = await dd(`${path}/big.raw`, 'bs=64k', 'count=64', 'iflag=direct', `skip=${n * 64}`);
      return stdout.equals(pattern(n * 2 ** 22, 2 ** 22));
    });
    expect(await Promise.all(readers)).to.deep.equal(Array(16).fill(true));
  });

  it('mounts on a regular file', async () => {
    const mounted = await mount({ mountpointKind: 'file', readOnly: true });
    const { path } = mounted;
    expect(await stat('%F %s', path)).to.equal(`regular file ${BIG_SIZE}`);
    const { stdout } = await dd(path, 'bs=1M', 'count=1', 'skip=5000');
    expect(stdout.equals(pattern(5000 * 2 ** 20, 2 ** 20))).to.equal(true);
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('mounts on the top of another mount', async () => {
    const at = mountpoint('directory');
    clear.push(async () => at.remove());
    expect((await program('mount', '-t', 'tmpfs', 'imgfs-test', at.path)).code).to.equal(0);
    clear.push(async () => void (await program('umount', at.path)));
    const mounted = await Mounted.start(MODULE, 'kernel', { mountpoint: at.path });
    clear.push(() => mounted.clear());
    expect((await program('cat', `${at.path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('answers errors with the right errno, logs each once per thread, and goes on', async () => {
    const mounted = await mount();
    const { path } = mounted;
    for (let round = 0; round < 20; round++) {
      expect((await dd(`${path}/broken.raw`, 'bs=4k', 'count=1', 'iflag=direct')).stderr).to.include(
        'Input/output error',
      );
    }
    expect((await program('cat', `${path}/bug.raw`)).stderr).to.include('Input/output error');
    expect(mounted.logs.filter((line) => line.includes('the table is not a table')).length).to.be.within(1, 2);
    expect(mounted.logs.filter((line) => line.includes('internal error: a bug')).length).to.be.within(1, 4);
    expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
  });

  it('refuses every change', async () => {
    const { path } = await mount();
    for (const command of [
      ['touch', `${path}/new`],
      ['rm', '-f', `${path}/small.raw`],
      ['mv', `${path}/small.raw`, `${path}/other.raw`],
      ['mkdir', `${path}/new`],
      ['rmdir', `${path}/folder`],
      ['ln', '-s', 'x', `${path}/new`],
      ['ln', `${path}/small.raw`, `${path}/new`],
      ['chmod', '600', `${path}/small.raw`],
      ['chown', '1', `${path}/small.raw`],
      ['truncate', '-s', '0', `${path}/small.raw`],
      ['mknod', `${path}/new`, 'p'],
      ['dd', 'if=/dev/zero', `of=${path}/small.raw`, 'count=1', 'conv=notrunc'],
    ]) {
      const [file, ...args] = command;
      expect((await program(file!, ...args)).stderr, command.join(' ')).to.match(/Read-only file system|not permitted/);
    }
    expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
  });

  it('has no extended attributes, and says so', async () => {
    const { path } = await mount();
    const script = 'import os,sys\ntry: os.listxattr(sys.argv[1])\nexcept OSError as e: print(e.strerror)';
    const { stdout } = await program('python3', '-c', script, `${path}/small.raw`);
    expect(stdout.toString().trim()).to.equal('Operation not supported');
  });

  it('keeps other users out by mode also with allow_other', async () => {
    const asOther = async (mode: number): Promise<Outcome> => {
      const { path } = await mount({ allowOther: true, mode });
      await program('chmod', '755', dirname(path));
      return program('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'cat', `${path}/small.raw`);
    };
    expect((await asOther(0o600)).stderr).to.include('Permission denied');
    expect((await asOther(0o644)).stdout.toString()).to.equal('hello\n');
  });

  it('raises readahead', async () => {
    const { path } = await mount();
    const device = (await program('mountpoint', '-d', path)).stdout.toString().trim();
    const { stdout } = await program('cat', `/sys/class/bdi/${device}/read_ahead_kb`);
    expect(stdout.toString().trim()).to.equal('1024');
  });

  it('does not mount through a symbolic link put in the place of the mountpoint', async () => {
    const at = mountpoint('directory');
    clear.push(async () => at.remove());
    const link = `${dirname(at.path)}/link`;
    symlinkSync(at.path, link);
    symlinkSync(dirname(at.path), `${link}-above`);
    for (const path of [link, at.path.replace(dirname(at.path), `${link}-above`)]) {
      const failed = await Mounted.start(MODULE, 'kernel', { mountpoint: path }).catch((error: Error) => error.message);
      expect(failed).to.equal(`imgfs: cannot mount on ${path}: it was replaced while being mounted on`);
      expect(mountEntry(at.path)).to.equal(undefined);
    }
  });

  it('says what is wrong with the mountpoint', async () => {
    const at = mountpoint('file');
    clear.push(async () => at.remove());
    const path = `${at.path}-missing`;
    const failed = await Mounted.start(MODULE, 'kernel', { mountpoint: path }).catch((error: Error) => error.message);
    expect(failed).to.equal(`imgfs: cannot mount on ${path}: no such file`);
  });

  it('has mounted nothing when the data workers fail', async () => {
    const at = mountpoint('directory');
    clear.push(async () => at.remove());
    const served = new URL('./failing.js', import.meta.url).href;
    const failed = await Mounted.start(MODULE, 'kernel', { mountpoint: at.path, served }).catch(
      (error: Error) => error,
    );
    expect(failed).to.include({ message: 'imgfs: the image is in use', reason: 'locked' });
    expect(mountEntry(at.path)).to.equal(undefined);
  });

  it('ends within a second after a plain umount', async () => {
    const mounted = await mount();
    await program('cat', `${mounted.path}/small.raw`);
    const start = Date.now();
    expect((await program('umount', mounted.path)).code).to.equal(0);
    expect(await mounted.exited).to.equal(0);
    expect(Date.now() - start).to.be.below(1000);
  });

  it('refuses to unmount while a file is open, and serves it on after a lazy unmount', async () => {
    const mounted = await mount();
    const file = await open(`${mounted.path}/big.raw`);
    try {
      expect(await mounted.unmount(false)).to.equal('busy');
      expect(await mounted.unmount(true)).to.equal('ok');
      expect(mountEntry(mounted.path)).to.equal(undefined);
      // Asked again when it is out of the tree, it has nothing to do, and leaves alone what else may be there.
      expect(await mounted.unmount(true)).to.equal('ok');
      const bytes = Buffer.alloc(4096);
      await file.read(bytes, 0, 4096, 2 ** 32);
      expect(bytes.equals(pattern(2 ** 32, 4096))).to.equal(true);
      expect(mounted.process.exitCode).to.equal(null);
    } finally {
      await file.close();
    }
    expect(await mounted.exited).to.equal(0);
  });

  it('does not unmount what somebody mounted over it', async () => {
    const mounted = await mount();
    expect((await program('mount', '-t', 'tmpfs', 'imgfs-test', mounted.path)).code).to.equal(0);
    try {
      expect(await mounted.unmount(true)).to.equal('busy');
    } finally {
      await program('umount', mounted.path);
    }
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('leaves a mount that can be cleared away when it is killed', async () => {
    const mounted = await mount();
    mounted.process.kill('SIGKILL');
    await mounted.exited;
    expect((await program('ls', mounted.path)).stderr).to.include('Transport endpoint is not connected');
    expect((await program('umount', mounted.path)).code).to.equal(0);
  });
});
