/**
 * Machines that lack something, each made in a private mount namespace: the host is never changed. What is mounted
 * there is looked at from inside and goes with the process.
 */
import { chownSync, existsSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { fuseNative } from '../../../src/fuse/fuse-native/index.js';
import type { Job } from '../../support/adapter-process.js';
import { Mounted, mountEntry, mountpoint, type Outcome, program } from '../../support/mounted.js';

const MODULE = new URL('../../../src/fuse/fuse-native/index.js', import.meta.url).href;
const NOBODY = 65534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];

/** Shell lines that prepare the namespace; $1 is a scratch directory. */
const HIDE_LIBFUSE = `
  mount -t tmpfs imgfs-test "$1" && mkdir "$1/upper" "$1/work"
  for library in $(ldconfig -p | sed -n 's/^.*libfuse\\.so\\.2 .*=> //p'); do
    directory=$(dirname "$(realpath "$library")")
    mount -t overlay -o "lowerdir=$directory,upperdir=$1/upper,workdir=$1/work" imgfs-test "$directory"
    rm -f "$directory"/libfuse.so.2*
  done`;

const fuseDevice = (mode: string): string => `
  mount -t tmpfs imgfs-test "$1" && mknod -m ${mode} "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse`;

const NO_DEVICE = `
  mount -t tmpfs imgfs-test "$1" && for name in null zero random urandom; do
    touch "$1/$name" && mount --bind "/dev/$name" "$1/$name"; done && mount --move "$1" /dev`;

function hidePackage(): string {
  const entry = createRequire(import.meta.url).resolve('fuse-native');
  return `mount -t tmpfs imgfs-test "${realpathSync(dirname(entry))}"`;
}

function obstacle(): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  if (!existsSync('/usr/bin/unshare')) return 'no unshare';
  return fuseNative.unavailable();
}

const missing = obstacle();

describe(`fuse-native where something is missing${missing === undefined ? '' : ` (skipped: ${missing})`}`, function () {
  this.timeout(20_000);
  let clear: (() => Promise<void>)[] = [];

  before(function () {
    if (missing !== undefined) this.skip();
  });

  afterEach(async () => {
    for (const end of clear.reverse()) await end();
    clear = [];
  });

  /** Mounts inside a namespace prepared by `setup`, as root or as nobody. */
  async function start(setup: string, options: { readonly nobody?: boolean } & Partial<Job> = {}): Promise<Mounted> {
    const { nobody = false, ...job } = options;
    const at = mountpoint('directory');
    const scratch = mountpoint('directory');
    clear.push(async () => {
      at.remove();
      scratch.remove();
    });
    if (nobody) for (const path of [at.path, dirname(at.path)]) chownSync(path, NOBODY, NOBODY);
    const prepared = ['unshare', '-m', '--propagation', 'private', 'sh', '-ec', `${setup}\nshift; exec "$@"`];
    const launcher = [...prepared, 'sh', scratch.path, ...(nobody ? AS_NOBODY : [])];
    const mounted = await Mounted.start(MODULE, 'fuseNative', { ...job, mountpoint: at.path }, launcher);
    clear.push(async () => {
      if (mounted.process.exitCode === null) mounted.process.kill('SIGKILL');
      await mounted.exited;
    });
    return mounted;
  }

  const inside = (mounted: Mounted, ...command: readonly string[]): Promise<Outcome> =>
    program('nsenter', '-t', String(mounted.process.pid), '-m', '--', ...command);

  const failure = async (started: Promise<Mounted>): Promise<string> =>
    started.then(
      () => 'it mounted',
      (error: Error) => error.message,
    );

  it('without libfuse.so.2 it loads the copy inside the package', async () => {
    const mounted = await start(HIDE_LIBFUSE);
    expect(
      (await inside(mounted, 'sh', '-c', 'ls $(dirname $(realpath /lib/*/libc.so.6)) | grep libfuse.so.2')).code,
    ).to.equal(1);
    const maps = (await program('cat', `/proc/${mounted.process.pid}/maps`)).stdout.toString();
    expect(maps).to.include(join('fuse-native', 'prebuilds', 'linux-x64', 'libfuse.so'));
    expect((await inside(mounted, 'cat', `${mounted.path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('without the package it says so', async () => {
    expect(await failure(start(hidePackage()))).to.equal(
      'imgfs: the npm package fuse-native is not installed: npm install fuse-native, or use --adapter kernel',
    );
  });

  it('without /dev/fuse it says how to get it', async () => {
    expect(await failure(start(NO_DEVICE))).to.match(/^imgfs: cannot mount: \/dev\/fuse is missing: .*modprobe fuse$/);
  });

  it('where a user may not open /dev/fuse it says so', async () => {
    expect(await failure(start(fuseDevice('600'), { nobody: true }))).to.equal(
      'imgfs: cannot mount: /dev/fuse is mode 0600: as root run chmod 0666 /dev/fuse',
    );
  });

  it('lets a user mount and unmount, through fusermount', async () => {
    const mounted = await start(fuseDevice('666'), { nobody: true, source: '/images/a b,c\\d.qcow2', readOnly: true });
    const [source, , type, options] = mountEntry(mounted.path, mounted.process.pid) ?? [];
    expect(source).to.equal('/images/a\\040b,c\\134d.qcow2');
    expect(type).to.equal('fuse.imgfs');
    expect(options?.split(',')).to.include.members([
      'ro',
      'nosuid',
      'nodev',
      'default_permissions',
      `user_id=${NOBODY}`,
    ]);
    const seen = await inside(mounted, ...AS_NOBODY, 'cat', `${mounted.path}/small.raw`);
    expect(seen.stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('a user without libfuse.so.2 reaches fusermount all the same', async () => {
    const setup = `${HIDE_LIBFUSE}\nmknod -m 666 "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse`;
    const mounted = await start(setup, { nobody: true });
    const seen = await inside(mounted, ...AS_NOBODY, 'cat', `${mounted.path}/small.raw`);
    expect(seen.stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(true)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('tells a user why allow_other is refused', async () => {
    const setup = `${fuseDevice('666')}\ntouch "$1/conf" && mount --bind "$1/conf" /etc/fuse.conf`;
    expect(await failure(start(setup, { nobody: true, allowOther: true }))).to.match(/allow_other.*user_allow_other/);
  });

  it('notices an aborted connection, takes the dead mount away and fails', async function () {
    const control = '/sys/fs/fuse/connections';
    const mounted = await start(`mount -t fusectl imgfs-test ${control} || :`);
    // The device is not touched by its path: stat would be a request.
    const device = (await inside(mounted, 'mountpoint', '-d', mounted.path)).stdout.toString().trim();
    const abort = `${control}/${device.split(':')[1]}/abort`;
    if ((await inside(mounted, 'test', '-w', abort)).code !== 0) this.skip();
    await inside(mounted, 'sh', '-c', `echo 1 > ${abort}`);
    expect(await mounted.exited).to.equal(1);
  });
});
