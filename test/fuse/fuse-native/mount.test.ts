import { open } from 'node:fs/promises';
import { expect } from 'chai';
import { fuseNative } from '../../../src/fuse/fuse-native/index.js';
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

const MODULE = new URL('../../../src/fuse/fuse-native/index.js', import.meta.url).href;

/** Why mounts cannot be tried here; undefined when they can. */
const obstacle = process.geteuid?.() !== 0 ? 'not root' : fuseNative.unavailable();

function pattern(at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  fillPattern(bytes, at);
  return bytes;
}

describe(`fuse-native mounts${obstacle === undefined ? '' : ` (skipped: ${obstacle})`}`, function () {
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
    const mounted = await Mounted.start(MODULE, 'fuseNative', { ...job, mountpoint: at.path });
    clear.push(() => mounted.clear());
    return mounted;
  }

  const stat = async (format: string, path: string): Promise<string> =>
    (await program('stat', '-c', format, path)).stdout.toString().trim();

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
      'max_read=131072',
    ]);
  });

  it('keeps every option when the source is far too long', async () => {
    const { path } = await mount({ source: `/${'x,'.repeat(2000)}end.qcow2` });
    const [source, , type, options] = mountEntry(path) ?? [];
    expect(source).to.match(/^\.\.\..*x,end\.qcow2$/);
    expect(type).to.equal('fuse.imgfs');
    expect(options).to.include('rw,nosuid,nodev').and.include('default_permissions').and.not.include('allow_other');
  });

  it('lists, and shows exact sizes, blocks, inodes and times', async () => {
    const { path } = await mount();
    const listed = (await program('ls', '-1', path)).stdout.toString().trim().split('\n');
    expect(listed).to.have.members(['big.raw', 'small.raw', 'broken.raw', 'bug.raw', 'folder']);
    expect(await stat('%s %b %B %i %a %h %o', `${path}/big.raw`)).to.equal(
      `${BIG_SIZE} ${Math.ceil(BIG_ALLOCATED / 512)} 512 ${INODES.big} 644 1 65536`,
    );
    expect(await stat('%.9Y', `${path}/big.raw`)).to.equal(`${MTIME_SECONDS}.0${MTIME_NANOSECONDS}`);
    expect(await stat('%F %i', `${path}/folder`)).to.equal(`directory ${INODES.folder}`);
    expect((await program('ls', '-i', `${path}/folder`)).stdout.toString().trim()).to.equal(
      `${INODES.inside} inside.raw`,
    );
    expect((await program('stat', `${path}/nothing`)).stderr).to.include('No such file');
  });

  it('shows space past 32 bits', async () => {
    const { path } = await mount();
    const { stdout } = await program('stat', '-f', '-c', '%s %S %b %f', path);
    const [bsize, unit, total, free] = stdout.toString().trim().split(' ').map(Number);
    expect(bsize).to.equal(65536);
    expect(total! * unit!).to.equal(2 ** 50);
    expect(free! * unit!).to.equal(2 ** 49);
  });

  it('reads the right bytes on both sides of 2, 4 GiB and the end', async () => {
    const { path } = await mount();
    const file = `${path}/big.raw`;
    for (const at of [0, 2 ** 31 - 4096, 2 ** 32 - 4096, 2 ** 32 + 12_288]) {
      const args = [`if=${file}`, 'bs=8192', 'count=1', 'iflag=skip_bytes,fullblock', `skip=${at}`, 'status=none'];
      expect((await program('dd', ...args)).stdout.equals(pattern(at, 8192)), `at ${at}`).to.equal(true);
    }
    const tail = await program('tail', '-c', '20000', file);
    expect(tail.stdout.equals(pattern(BIG_SIZE - 20_000, 20_000))).to.equal(true);
    expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
  });

  it('reads in requests of 128 KiB', async () => {
    const mounted = await mount({ trace: true });
    await program(
      'dd',
      `if=${mounted.path}/big.raw`,
      'of=/dev/null',
      'bs=1M',
      'count=4',
      'iflag=direct',
      'status=none',
    );
    const reads = mounted.logs.filter((line) => line.startsWith('read '));
    expect(reads).to.have.length(32);
    expect(reads[1]).to.equal('read /big.raw 131072 131072 -> 131072');
  });

  it('mounts on a regular file', async () => {
    const { path } = await mount({ mountpointKind: 'file' });
    expect(await stat('%F %s', path)).to.equal(`regular file ${BIG_SIZE}`);
    const { stdout } = await program('dd', `if=${path}`, 'bs=1M', 'count=1', 'skip=5000', 'status=none');
    expect(stdout.equals(pattern(5000 * 2 ** 20, 2 ** 20))).to.equal(true);
  });

  it('mounts on the top of another mount', async () => {
    const at = mountpoint('directory');
    clear.push(async () => at.remove());
    expect((await program('mount', '-t', 'tmpfs', 'imgfs-test', at.path)).code).to.equal(0);
    clear.push(async () => void (await program('umount', at.path)));
    const mounted = await Mounted.start(MODULE, 'fuseNative', { mountpoint: at.path });
    clear.push(() => mounted.clear());
    expect((await program('cat', `${at.path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('answers errors with the right errno and goes on', async () => {
    const mounted = await mount();
    const { path } = mounted;
    expect((await program('cat', `${path}/broken.raw`)).stderr).to.include('Input/output error');
    expect((await program('cat', `${path}/bug.raw`)).stderr).to.include('Input/output error');
    expect(mounted.logs.some((line) => /^read \/broken.raw .*: the table is not a table$/.test(line))).to.equal(true);
    expect(mounted.logs.some((line) => /^read \/bug.raw .*: internal error: a bug \(at /.test(line))).to.equal(true);
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
      await program('chmod', '755', `${path}/..`);
      return program('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', 'cat', `${path}/small.raw`);
    };
    expect((await asOther(0o600)).stderr).to.include('Permission denied');
    expect((await asOther(0o644)).stdout.toString()).to.equal('hello\n');
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
      const bytes = Buffer.alloc(4096);
      await file.read(bytes, 0, 4096, 2 ** 32);
      expect(bytes.equals(pattern(2 ** 32, 4096))).to.equal(true);
      expect(mounted.process.exitCode).to.equal(null);
    } finally {
      await file.close();
    }
    expect(await mounted.exited).to.equal(0);
  });

  it('does not unmount what somebody else mounted over it', async () => {
    const mounted = await mount({ mountpointKind: 'directory' });
    expect((await program('mount', '-t', 'tmpfs', 'imgfs-test', mounted.path)).code).to.equal(0);
    clear.push(async () => void (await program('umount', mounted.path)));
    expect(await mounted.unmount(false)).to.equal('busy');
    expect(await mounted.unmount(true)).to.equal('busy');
    await program('umount', mounted.path);
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('ends at once after its own unmount', async () => {
    const mounted = await mount();
    const start = Date.now();
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
    expect(Date.now() - start).to.be.below(500);
  });

  it('says what is wrong when nothing can be mounted', async () => {
    const at = mountpoint('directory');
    clear.push(async () => at.remove());
    const long = `${at.path}/${'x'.repeat(200)}/`.repeat(6);
    const failed = await Mounted.start(MODULE, 'fuseNative', { mountpoint: long }).catch(
      (error: Error) => error.message,
    );
    expect(failed).to.match(/^imgfs: the mountpoint's path is longer than 1023 bytes: /);
  });
});
