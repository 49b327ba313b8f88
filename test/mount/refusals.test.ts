/** What cannot be mounted, or not so: one line that says why and what to do, the documented status, nothing left. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { fromDisks } from '../../src/formats/qcow2/samples/image.js';
import { mounts } from '../../src/fuse/mountinfo.js';
import { mountObstacle, place, unless } from '../support/place.js';
import { imgfs, type Ran } from '../support/program.js';

describe('what is refused', () => {
  unless(mountObstacle());
  const here = place();
  let image = '';

  before(() => {
    image = here.file('disk.qcow2', fromDisks([{ disk: Buffer.alloc(100_000, 'disk') }]));
  });

  afterEach('nothing is mounted, no log is left', () => {
    expect(mounts().filter(({ mountpoint }) => mountpoint.startsWith(here.path('')))).to.deep.equal([]);
  });

  const failure = (code: number, line: string): Ran => ({ code, stdout: '', stderr: `imgfs: ${line}\n` });

  it('bad command lines, with status 2', () => {
    const at = here.mountpoint();
    for (const [args, line] of [
      [['mount'], "missing required argument 'paths': see imgfs help mount"],
      [['mount', image], 'mount needs an image and a mountpoint: see imgfs help mount'],
      [['mount', '--snapsot', 'x', image, at], "unknown option '--snapsot': did you mean --snapshot?"],
      [['umount'], "missing required argument 'mountpoints': see imgfs help umount"],
    ] as const) {
      expect(imgfs(...args)).to.deep.equal(failure(2, line));
    }
    for (const [list, line] of [
      ['snapshoot=x', 'unknown mount option "snapshoot": did you mean "snapshot"?'],
      ['Allow_Other', 'unknown mount option "Allow_Other"'],
      ['snapshot', 'the mount option "snapshot" needs a value: write snapshot=VALUE'],
      ['ro=1', 'the mount option "ro" takes no value'],
      ['workers=0', '"0" is no number of workers: give 1 to 64'],
      ['adapter=fuse', 'unknown adapter "fuse": there are auto, kernel, fuse-native'],
      ['ro,offset=512', 'unknown mount option "offset"'],
    ] as const) {
      const { code, stderr } = imgfs('mount', '-o', list, image, at);
      expect([code, stderr.split('\n').length]).to.deep.equal([2, 2]);
      expect(stderr, list).to.include(line);
    }
    expect(imgfs('umount', '--timeout', 'x', at).code).to.equal(2);
  });

  it('images that cannot be opened', () => {
    const at = here.mountpoint();
    expect(imgfs('mount', here.path('absent'), at)).to.deep.equal(
      failure(1, `cannot open ${here.path('absent')}: no such file`),
    );
    expect(imgfs('mount', '--format=raw', at, here.mountpoint())).to.deep.equal(failure(1, `${at} is a directory`));
    const unknown = here.file('unknown.qcow2', Buffer.from(fromDisks([{ disk: Buffer.alloc(9) }])).fill(255, 72, 80));
    const { code, stderr } = imgfs('mount', unknown, at);
    expect([code, stderr.split('\n').length]).to.deep.equal([1, 2]);
    expect(stderr).to.match(/^imgfs: .*unknown\.qcow2.*feature/);
  });

  it('read-write, where that cannot be', () => {
    for (const [option, why] of [
      ['-U', 'with --force-share others may be writing it'],
      ['--snapshot=s', 'a snapshot is only read'],
    ] as const) {
      const { code, stderr } = imgfs('mount', '-o', 'ro,rw', option, image, here.mountpoint());
      expect({ code, stderr }).to.deep.equal({
        code: 1,
        stderr: `imgfs: ${image} cannot be mounted read-write: ${why}\n`,
      });
    }
  });

  it('mountpoints that are missing, in use or no place for a mount', () => {
    const absent = here.path('absent');
    expect(imgfs('mount', image, absent)).to.deep.equal(
      failure(1, `cannot use the mountpoint ${absent}: no such file`),
    );
    const beneath = path.join(image, 'beneath');
    expect(imgfs('mount', image, beneath)).to.deep.equal(
      failure(1, `cannot use the mountpoint ${beneath}: not a directory`),
    );
    expect(imgfs('mount', image, '/dev/null')).to.deep.equal(
      failure(1, 'the mountpoint /dev/null is neither a directory nor a regular file'),
    );
    const full = here.mountpoint();
    fs.writeFileSync(path.join(full, 'a file'), '');
    expect(imgfs('mount', image, full)).to.deep.equal(
      failure(1, `${full} is not empty: choose an empty directory or add -o nonempty`),
    );
    expect(imgfs('mount', '-r', '-o', 'nonempty', image, full)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(imgfs('mount', image, full)).to.deep.equal(
      failure(1, `${full} has an imgfs mount already: end it with imgfs umount ${full}`),
    );
    expect(imgfs('umount', full).code).to.equal(0);
    expect(fs.readdirSync(full)).to.deep.equal(['a file']);
  });

  it('mountpoints that would hide the image, or what it is made of', () => {
    const hides = (at: string, file: string): Ran =>
      failure(1, `a mount at ${at} would hide ${file}: choose another mountpoint`);
    expect(imgfs('mount', image, image)).to.deep.equal(hides(image, image));
    expect(imgfs('mount', '-o', 'nonempty', image, here.path('.'))).to.deep.equal(hides(here.path('.'), image));
    expect(imgfs('mount', '-o', 'nonempty', image, '/')).to.deep.equal(hides('/', image));
    const link = here.path('link');
    fs.symlinkSync(image, link);
    expect(imgfs('mount', link, image)).to.deep.equal(hides(image, image));
    fs.mkdirSync(here.path('layers'));
    const base = here.file('layers/base.img', Buffer.alloc(1024));
    const top = fromDisks([{ disk: Buffer.alloc(1024) }], { backing: { name: 'layers/base.img', format: 'raw' } });
    expect(imgfs('mount', '-o', 'nonempty', here.file('top.qcow2', top), here.path('layers'))).to.deep.equal(
      hides(here.path('layers'), base),
    );
  });

  it('to unmount what is no mount of ours', () => {
    const at = here.mountpoint();
    for (const place of [at, '/proc', here.path('disk.qcow2')]) {
      expect(imgfs('umount', place)).to.deep.equal(
        failure(1, `there is no imgfs mount on ${place}: imgfs list tells where there are`),
      );
    }
  });

  it('nothing of it where the mountpoint is a link or the names are odd', () => {
    const [at, link] = [here.path('a place, with "odd" \\ name'), here.path('place-link')];
    fs.mkdirSync(at);
    fs.symlinkSync(at, link);
    const odd = here.file('odd, image\\ name.qcow2', fs.readFileSync(image));
    expect(imgfs('mount', '-r', odd, link)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(mounts().find(({ mountpoint }) => mountpoint === at)).to.include({ type: 'fuse.imgfs', source: odd });
    expect(imgfs('umount', link)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
  });
});
