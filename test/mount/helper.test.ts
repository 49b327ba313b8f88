/** mount(8) and fstab: as the program behind `mount -t fuse.imgfs`, and as the helper /sbin/mount.imgfs. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { fromDisks } from '../../src/formats/qcow2/samples/image.js';
import { mounts } from '../../src/fuse/mountinfo.js';
import { Machine } from '../support/namespace.js';
import { withoutFfi } from '../support/no-ffi.js';
import { eventually, mountObstacle, needsRoot, place, unless } from '../support/place.js';
import { IMGFS, imgfs, type Ran, run } from '../support/program.js';
import { needsTool } from '../support/qemu.js';

/** What fstab lines hold that is not meant for us. */
const FSTAB =
  'ro,nofail,user,_netdev,noauto,x-systemd.automount,x-systemd.requires=network.target,noatime,comment=disks';

describe('mount -t fuse.imgfs', () => {
  needsRoot();
  needsTool('unshare', 'mount.fuse3');
  const machine = new Machine();
  let image = '';

  before(() => {
    image = machine.here.file(
      'disk.qcow2',
      fromDisks([{ snapshot: 's', disk: Buffer.alloc(9, 'old') }, { disk: Buffer.alloc(9, 'new') }]),
    );
  });

  /** The program where mount.fuse3 looks for it. */
  const INSTALLED = `
    mount -t tmpfs imgfs-test /usr/local/bin
    printf '#!/bin/sh\\nexec %s %s "$@"\\n' "$NODE" "$IMGFS" > /usr/local/bin/imgfs; chmod 755 /usr/local/bin/imgfs`;

  it('mounts with the options of fstab, and umount ends it', () => {
    const { code, stdout, stderr } = machine.run(`${INSTALLED}
      mount -t fuse.imgfs ${image} "$HERE/mnt" -o ${FSTAB},allow_other,snapshot=s
      head -c 3 "$HERE/mnt/disk.raw"; echo; grep " $HERE/mnt " /proc/mounts | cut -d' ' -f 1,3,4
      umount "$HERE/mnt"`);
    expect([code, stderr]).to.deep.equal([0, '']);
    const [bytes, line] = stdout.split('\n');
    expect(bytes).to.equal('old');
    expect(line).to.match(new RegExp(`^${image} fuse\\.imgfs ro,nosuid,nodev,.*default_permissions,allow_other`));
  });

  it('mounts by a line of fstab', () => {
    const { code, stdout, stderr } = machine.run(`${INSTALLED}
      echo "${image} $HERE/mnt fuse.imgfs ${FSTAB.replace('noauto,', '')} 0 0" > "$HERE/fstab"
      mount --bind "$HERE/fstab" /etc/fstab
      mount "$HERE/mnt"; head -c 3 "$HERE/mnt/disk.raw"; umount "$HERE/mnt"`);
    expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: 'new', stderr: '' });
  });

  it('takes its own rw for nothing: an image that cannot be written is read-only', () => {
    const { code, stderr } = machine.run(`${INSTALLED}
      mount -t fuse.imgfs ${image} "$HERE/mnt" -o force-share; umount "$HERE/mnt"`);
    expect(code).to.equal(0);
    expect(stderr).to.match(/^imgfs: [^\n]* is mounted read-only: with --force-share [^\n]*\n$/);
  });

  it('fails with our line and our status', () => {
    const { stdout, stderr } = machine.run(`${INSTALLED}
      mount -t fuse.imgfs ${image} "$HERE/mnt" -o ro,snapshoot=s || echo $?
      mount -t fuse.imgfs "$HERE/absent" "$HERE/mnt" -o ro || echo $?`);
    expect(stdout).to.equal('1\n32\n');
    expect(stderr).to.include('unknown mount option "snapshoot": did you mean "snapshot"?');
    expect(stderr).to.match(/imgfs: cannot open [^\n]*absent: no such file\n/);
  });
});

describe('mount.imgfs', () => {
  unless(mountObstacle());
  const here = place();
  let image = '';
  let program = '';

  before(() => {
    image = here.file('disk.qcow2', fromDisks([{ disk: Buffer.alloc(9, 'new') }]));
    program = here.path('mount.imgfs');
    fs.symlinkSync(IMGFS, program);
  });

  const helper = (...args: readonly string[]): Ran => run(process.execPath, [program, ...args]);
  const isMounted = (at: string): boolean => mounts().some(({ mountpoint }) => mountpoint === at);

  it('takes what mount(8) passes', () => {
    const at = here.mountpoint();
    expect(helper(image, at, '-s', '-n', '-v', '-o', `${FSTAB},workers=2`, '-t', 'fuse.imgfs')).to.include({
      code: 0,
      stderr: '',
    });
    expect(fs.readFileSync(path.join(at, 'disk.raw'), 'latin1')).to.equal('newnewnew');
    expect(imgfs('umount', at).code).to.equal(0);
  });

  it('with -f only pretends, where imgfs IMAGE MOUNTPOINT -f stays in front', async () => {
    const at = here.mountpoint();
    expect(helper(image, at, '-f', '-o', 'ro')).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(isMounted(at)).to.equal(false);
    const front = here.startImgfs(image, at, '-f', '-o', 'ro');
    await eventually('it is live', () => here.isServed(at));
    expect(front.exitCode).to.equal(null);
    expect(imgfs('umount', at).code).to.equal(0);
  });

  it('has the statuses of mount(8): usage 1, system 2, failure 32', () => {
    const at = here.mountpoint();
    expect(helper(image, at, '-o', 'nonsense').code).to.equal(1);
    expect(helper(image).code).to.equal(1);
    expect(helper(here.path('absent'), at, '-o', 'ro').code).to.equal(32);
    expect(helper(image, here.path('absent'), '-o', 'ro').code).to.equal(32);
    const environment = { env: withoutFfi(here) };
    expect(run(process.execPath, [program, image, at, '-o', 'ro,adapter=kernel'], environment).code).to.equal(2);
  });
});
