/**
 * Users, and machines that lack something, by every adapter; each in a private mount namespace: the host is never
 * changed, and what is mounted there goes with the process.
 */
import { expect } from 'chai';
import {
  AS_NOBODY,
  adapterMounts,
  FUSE_NATIVE,
  failure,
  fuseDevice,
  inside,
  KERNEL,
  NO_DEVICE,
  NOBODY,
  namespaceObstacle,
} from '../support/adapter-mounts.js';
import { mountEntry } from '../support/mounted.js';
import { unless } from '../support/place.js';
import { needsTool } from '../support/qemu.js';

for (const of of [KERNEL, FUSE_NATIVE]) {
  const { name, can } = of.adapter;
  describe(`users and machines, adapter ${name}`, function () {
    this.timeout(20_000);
    unless(namespaceObstacle());
    needsTool('fusermount3');
    const mounts = adapterMounts(of);

    it('lets a user mount, read and unmount', async () => {
      const job = { source: '/images/a b,c\\d.qcow2', readOnly: true };
      const mounted = await mounts.start(fuseDevice('666'), AS_NOBODY, job);
      const [shown, , type, options] = mountEntry(mounted.path, mounted.process.pid) ?? [];
      expect([shown, type]).to.deep.equal(['/images/a\\040b,c\\134d.qcow2', 'fuse.imgfs']);
      const expected = ['ro', 'nosuid', 'nodev', 'default_permissions', `user_id=${NOBODY}`];
      expect(options?.split(',')).to.include.members([...expected, `max_read=${can.requestBytes}`]);
      const seen = await inside(mounted, ...AS_NOBODY, 'cat', `${mounted.path}/small.raw`);
      expect(seen.stdout.toString()).to.equal('hello\n');
      expect((await inside(mounted, 'cat', `${mounted.path}/small.raw`)).stderr).to.include('Permission denied');
      expect(await mounted.unmount(false)).to.equal('ok');
      expect(await mounted.exited).to.equal(0);
    });

    it('where a user may not open /dev/fuse it says so', async () => {
      for (const mode of ['0600', '0660']) {
        expect(await failure(mounts.start(fuseDevice(mode), AS_NOBODY))).to.equal(
          `imgfs: cannot mount: /dev/fuse is mode ${mode}: as root run chmod 0666 /dev/fuse`,
        );
      }
    });

    it('without /dev/fuse it says how to get it', async () => {
      for (const as of [[], AS_NOBODY]) {
        expect(await failure(mounts.start(NO_DEVICE, as))).to.equal(
          'imgfs: cannot mount: /dev/fuse is missing: in a container start it with --device /dev/fuse; on a host: modprobe fuse',
        );
      }
    });

    it('tells a user why allow_other is refused', async () => {
      const setup = `${fuseDevice('666')}\ntouch "$1/conf" && mount --bind "$1/conf" /etc/fuse.conf`;
      expect(await failure(mounts.start(setup, AS_NOBODY, { allowOther: true }))).to.match(
        /^imgfs: cannot mount.*allow_other.* here: .*user_allow_other to \/etc\/fuse\.conf/,
      );
    });

    it('notices an aborted connection, takes the dead mount away and fails', async function () {
      const control = '/sys/fs/fuse/connections';
      const mounted = await mounts.start(`mount -t fusectl imgfs-test ${control} || :`);
      // The device is not touched by its path: stat would be a request.
      const device = (await inside(mounted, 'mountpoint', '-d', mounted.path)).stdout.toString().trim();
      const abort = `${control}/${device.split(':')[1]}/abort`;
      if ((await inside(mounted, 'test', '-w', abort)).code !== 0) this.skip();
      await inside(mounted, 'sh', '-c', `echo 1 > ${abort}`);
      expect(await mounted.exited).to.equal(1);
    });
  });
}
