/** What mounts of the kernel adapter do beyond what all do. */
import { symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect } from 'chai';
import { adapterMounts, dd, failure, KERNEL, pattern } from '../../support/adapter-mounts.js';
import { mountEntry, program } from '../../support/mounted.js';
import { BIG_SIZE, INODES } from '../../support/served.js';

describe('kernel adapter mounts', function () {
  this.timeout(20_000);
  const mounts = adapterMounts(KERNEL);

  it('reads past the page cache, the last partial block included', async () => {
    const { path } = await mounts.mount();
    const last = Math.floor(BIG_SIZE / 4096);
    const { stdout } = await dd(`${path}/big.raw`, 'bs=4096', 'count=2', 'iflag=direct', `skip=${last}`);
    expect(stdout.equals(pattern(last * 4096, BIG_SIZE - last * 4096))).to.equal(true);
    expect(
      (await dd(`${path}/big.raw`, 'bs=4096', 'count=1', 'iflag=direct', `skip=${last + 1}`)).stdout.length,
    ).to.equal(0);
  });

  it('reads in requests of 256 KiB, ahead too', async () => {
    const mounted = await mounts.mount({ trace: true });
    const file = `${mounted.path}/big.raw`;
    expect((await dd(file, 'bs=1M', 'count=4', 'iflag=direct')).stdout.equals(pattern(0, 2 ** 22))).to.equal(true);
    expect(await mounted.logged(16, /^READ /)).to.have.members(
      Array.from({ length: 16 }, (_, n) => `READ ino ${INODES.big} at ${n * 2 ** 18} size 262144: 262144 bytes`),
    );
    expect((await dd(file, 'bs=4k', 'count=2048')).stdout.equals(pattern(0, 2 ** 23))).to.equal(true);
    expect((await mounted.logged(48, /^READ /)).length).to.be.within(48, 60);
  });

  it('traces one line per request, and nothing when not asked to', async () => {
    const traced = await mounts.mount({ trace: true });
    await program('cat', `${traced.path}/small.raw`);
    expect(await traced.logged(1, /^LOOKUP/)).to.deep.equal(['LOOKUP ino 1 "small.raw": 128 bytes']);
    expect(await traced.logged(1, /^READ/)).to.deep.equal([`READ ino ${INODES.small} at 0 size 4096: 6 bytes`]);
    const quiet = await mounts.mount();
    await program('cat', `${quiet.path}/small.raw`);
    expect(quiet.logs).to.deep.equal([]);
  });

  it('serves sixteen readers at once', async () => {
    const { path } = await mounts.mount();
    const readers = Array.from({ length: 16 }, async (_, n) => {
      const { stdout } = await dd(`${path}/big.raw`, 'bs=64k', 'count=64', 'iflag=direct', `skip=${n * 64}`);
      return stdout.equals(pattern(n * 2 ** 22, 2 ** 22));
    });
    expect(await Promise.all(readers)).to.deep.equal(Array(16).fill(true));
  });

  it('logs an error that comes again once per thread', async () => {
    const mounted = await mounts.mount();
    const { path } = mounted;
    for (let round = 0; round < 20; round++) {
      expect((await dd(`${path}/broken.raw`, 'bs=4k', 'count=1', 'iflag=direct')).stderr).to.include(
        'Input/output error',
      );
    }
    expect((await program('cat', `${path}/bug.raw`)).stderr).to.include('Input/output error');
    expect((await mounted.logged(1, /the table is not a table/)).length).to.be.within(1, 2);
    expect((await mounted.logged(1, /internal error: a bug/)).length).to.be.within(1, 4);
    expect((await program('cat', `${path}/small.raw`)).stdout.toString()).to.equal('hello\n');
  });

  it('raises readahead', async () => {
    const { path } = await mounts.mount();
    const device = (await program('mountpoint', '-d', path)).stdout.toString().trim();
    const { stdout } = await program('cat', `/sys/class/bdi/${device}/read_ahead_kb`);
    expect(stdout.toString().trim()).to.equal('1024');
  });

  it('does not mount through a symbolic link put in the place of the mountpoint', async () => {
    const at = mounts.mountpoint();
    const link = `${dirname(at)}/link`;
    symlinkSync(at, link);
    symlinkSync(dirname(at), `${link}-above`);
    for (const path of [link, at.replace(dirname(at), `${link}-above`)]) {
      const failed = await failure(mounts.mount({ mountpoint: path }));
      expect(failed).to.equal(`imgfs: cannot mount on ${path}: it was replaced while being mounted on`);
      expect(mountEntry(at)).to.equal(undefined);
    }
  });

  it('says what is wrong with the mountpoint', async () => {
    const at = mounts.mountpoint('file');
    const path = `${at}-missing`;
    const failed = await failure(mounts.mount({ mountpoint: path }));
    expect(failed).to.equal(`imgfs: cannot mount on ${path}: no such file`);
  });

  it('has mounted nothing when the data workers fail', async () => {
    const at = mounts.mountpoint();
    const served = new URL('./failing.js', import.meta.url).href;
    const failed = await mounts.mount({ mountpoint: at, served }).catch((error: Error) => error);
    expect(failed).to.include({ message: 'imgfs: the image is in use', reason: 'locked' });
    expect(mountEntry(at)).to.equal(undefined);
  });
});
