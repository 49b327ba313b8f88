/**
 * Users of the kernel adapter, and machines that lack what it needs, each in a private mount namespace: the host is
 * never changed, and what is mounted there goes with the process.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import {
  AS_NOBODY,
  adapterMounts,
  failure,
  fuseDevice,
  inside,
  KERNEL,
  namespaceObstacle,
} from '../../support/adapter-mounts.js';
import { unless } from '../../support/place.js';
import { needsTool } from '../../support/qemu.js';
import { BIG_SIZE } from '../../support/served.js';

const WITHOUT_ADMIN = ['setpriv', '--bounding-set=-sys_admin'];

const NO_HELPER = `${fuseDevice('666')}
  touch "$1/none" && mount --bind "$1/none" "$(realpath /usr/bin/fusermount3)"`;

/** The helper replaced by one that tells what it was started with and fails. */
const TELLING_HELPER = `${fuseDevice('666')}
  cat > "$1/told" <<'end'
#!/bin/sh
tr "\\0" ";" < /proc/$$/environ >&2
printf "%s " "$@" >&2
exit 1
end
  chmod 755 "$1/told" "$1"
  mount --bind "$1/told" "$(realpath /usr/bin/fusermount3)"`;

describe('kernel adapter for users', function () {
  this.timeout(20_000);
  unless(namespaceObstacle());
  needsTool('fusermount3');
  const mounts = adapterMounts(KERNEL);

  it('lets a user mount on a file', async () => {
    const mounted = await mounts.start(fuseDevice('666'), AS_NOBODY, { mountpointKind: 'file' });
    const seen = await inside(mounted, ...AS_NOBODY, 'stat', '-c', '%F %s', mounted.path);
    expect(seen.stdout.toString().trim()).to.equal(`regular file ${BIG_SIZE}`);
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('tells a user that the mount is busy, and detaches it when asked', async () => {
    const mounted = await mounts.start(fuseDevice('666'), AS_NOBODY);
    const hold = `exec 3< ${mounted.path}/small.raw; echo open; read line; cat <&3`;
    const into = ['-t', String(mounted.process.pid), '-m', '--', ...AS_NOBODY];
    const holder = spawn('nsenter', [...into, 'sh', '-c', hold], { stdio: ['pipe', 'pipe', 'inherit'] });
    let said = '';
    holder.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    await once(holder.stdout, 'data');
    expect(await mounted.unmount(false)).to.equal('busy');
    expect(await mounted.unmount(true)).to.equal('ok');
    expect(mounted.process.exitCode).to.equal(null);
    holder.stdin.end('\n');
    await once(holder, 'close');
    expect(said).to.equal('open\nhello\n');
    expect(await mounted.exited).to.equal(0);
  });

  it('without fusermount3 it says how to get it', async () => {
    expect(await failure(mounts.start(NO_HELPER, AS_NOBODY))).to.equal(
      'imgfs: fusermount3 is missing: apt install fuse3',
    );
  });

  it('as root without the right to mount it says how to get it', async () => {
    expect(await failure(mounts.start(fuseDevice('666'), WITHOUT_ADMIN))).to.equal(
      'imgfs: cannot mount: mount(2) is not permitted: in a container start it with --device /dev/fuse --cap-add SYS_ADMIN',
    );
  });

  it('lets users in who fuse.conf lets in', async () => {
    const setup = `${fuseDevice('666')}\necho user_allow_other > "$1/conf" && mount --bind "$1/conf" /etc/fuse.conf`;
    const mounted = await mounts.start(setup, AS_NOBODY, { allowOther: true });
    expect((await inside(mounted, 'cat', `${mounted.path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it("passes on fusermount3's own words", async () => {
    const mounted = mounts.start(fuseDevice('666'), AS_NOBODY, { mountpoint: '/opt' });
    expect(await failure(mounted)).to.match(/^imgfs: cannot mount on \/\S+: user has no write access to mountpoint/);
  });

  it('gives the set-uid helper an environment of one variable and fixed options', async () => {
    const told = await failure(mounts.start(TELLING_HELPER, AS_NOBODY, { source: '-o,suid\\', allowOther: true }));
    expect(told).to.match(
      /: _FUSE_COMMFD=3;-o rw,nosuid,nodev,fsname=-o\\,suid\\\\,subtype=imgfs,default_permissions,max_read=262144,allow_other -- \/\S+$/,
    );
  });
});
