/**
 * Machines that lack what fuse-native needs, each made in a private mount namespace: the host is never changed. What is
 * mounted there is looked at from inside and goes with the process.
 */
import { realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import {
  AS_NOBODY,
  adapterMounts,
  FUSE_NATIVE,
  failure,
  inside,
  namespaceObstacle,
} from '../../support/adapter-mounts.js';
import { program } from '../../support/mounted.js';
import { unless } from '../../support/place.js';

/** Shell lines that prepare the namespace; $1 is a scratch directory. */
const HIDE_LIBFUSE = `
  mount -t tmpfs imgfs-test "$1" && mkdir "$1/upper" "$1/work"
  for library in $(ldconfig -p | sed -n 's/^.*libfuse\\.so\\.2 .*=> //p'); do
    directory=$(dirname "$(realpath "$library")")
    mount -t overlay -o "lowerdir=$directory,upperdir=$1/upper,workdir=$1/work" imgfs-test "$directory"
    rm -f "$directory"/libfuse.so.2*
  done`;

function hidePackage(): string {
  const entry = createRequire(import.meta.url).resolve('fuse-native');
  return `mount -t tmpfs imgfs-test "${realpathSync(dirname(entry))}"`;
}

describe('fuse-native where something is missing', function () {
  this.timeout(20_000);
  unless(namespaceObstacle());
  const mounts = adapterMounts(FUSE_NATIVE);

  it('without libfuse.so.2 it loads the copy inside the package', async () => {
    const mounted = await mounts.start(HIDE_LIBFUSE);
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
    expect(await failure(mounts.start(hidePackage()))).to.equal(
      'imgfs: the npm package fuse-native is not installed: npm install fuse-native, or use --adapter kernel',
    );
  });

  it('a user without libfuse.so.2 reaches fusermount all the same', async () => {
    const setup = `${HIDE_LIBFUSE}\nmknod -m 666 "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse`;
    const mounted = await mounts.start(setup, AS_NOBODY);
    const seen = await inside(mounted, ...AS_NOBODY, 'cat', `${mounted.path}/small.raw`);
    expect(seen.stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(true)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });
});
