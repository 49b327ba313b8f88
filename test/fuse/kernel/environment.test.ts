/**
 * Users, and machines that lack something, each in a private mount namespace: the host is never changed, and what is
 * mounted there goes with the process.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect } from 'chai';
import { kernel } from '../../../src/fuse/kernel/index.js';
import type { Job } from '../../support/adapter-process.js';
import { Mounted, mountEntry, mountpoint, type Outcome, program } from '../../support/mounted.js';
import { BIG_SIZE } from '../../support/served.js';

const MODULE = new URL('../../../src/fuse/kernel/index.js', import.meta.url).href;
const NOBODY = 65534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const WITHOUT_ADMIN = ['setpriv', '--bounding-set=-sys_admin'];

/** Shell lines that prepare the namespace; $1 is a scratch directory. */
const fuseDevice = (mode: string): string => `
  mount -t tmpfs imgfs-test "$1" && mknod -m ${mode} "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse`;

const NO_DEVICE = `
  mount -t tmpfs imgfs-test "$1" && for name in null zero random urandom; do
    touch "$1/$name" && mount --bind "/dev/$name" "$1/$name"; done && mount --move "$1" /dev`;

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

function obstacle(): string | undefined {
  if (process.geteuid?.() !== 0) return 'not root';
  if (!existsSync('/usr/bin/unshare')) return 'no unshare';
  if (!existsSync('/usr/bin/fusermount3')) return 'no fusermount3';
  return kernel.unavailable();
}

const missing = obstacle();

describe(`kernel adapter for users${missing === undefined ? '' : ` (skipped: ${missing})`}`, function () {
  this.timeout(20_000);
  let clear: (() => Promise<void>)[] = [];

  before(function () {
    if (missing !== undefined) this.skip();
  });

  afterEach(async () => {
    for (const end of clear.reverse()) await end();
    clear = [];
  });

  /** Mounts inside a namespace prepared by `setup`, as somebody who `as` makes of root. */
  async function start(setup: string, as: readonly string[], job: Partial<Job> = {}): Promise<Mounted> {
    const at = mountpoint(job.mountpointKind ?? 'directory');
    const scratch = mountpoint('directory');
    clear.push(async () => {
      at.remove();
      scratch.remove();
    });
    if (as === AS_NOBODY) for (const path of [at.path, dirname(at.path)]) chownSync(path, NOBODY, NOBODY);
    const prepared = ['unshare', '-m', '--propagation', 'private', 'sh', '-ec', `${setup}\nshift; exec "$@"`];
    const launcher = [...prepared, 'sh', scratch.path, ...as];
    const mounted = await Mounted.start(MODULE, 'kernel', { mountpoint: at.path, ...job }, launcher);
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

  it('lets a user mount, read and unmount', async () => {
    const source = '/images/a b,c\\d.qcow2';
    const mounted = await start(fuseDevice('666'), AS_NOBODY, { source, readOnly: true });
    const [shown, , type, options] = mountEntry(mounted.path, mounted.process.pid) ?? [];
    expect([shown, type]).to.deep.equal(['/images/a\\040b,c\\134d.qcow2', 'fuse.imgfs']);
    expect(options?.split(',')).to.include.members([
      'ro',
      'nosuid',
      'nodev',
      'default_permissions',
      'max_read=262144',
      `user_id=${NOBODY}`,
    ]);
    const seen = await inside(mounted, ...AS_NOBODY, 'cat', `${mounted.path}/small.raw`);
    expect(seen.stdout.toString()).to.equal('hello\n');
    expect((await inside(mounted, 'cat', `${mounted.path}/small.raw`)).stderr).to.include('Permission denied');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('lets a user mount on a file', async () => {
    const mounted = await start(fuseDevice('666'), AS_NOBODY, { mountpointKind: 'file' });
    const seen = await inside(mounted, ...AS_NOBODY, 'stat', '-c', '%F %s', mounted.path);
    expect(seen.stdout.toString().trim()).to.equal(`regular file ${BIG_SIZE}`);
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it('tells a user that the mount is busy, and detaches it when asked', async () => {
    const mounted = await start(fuseDevice('666'), AS_NOBODY);
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

  it('where a user may not open /dev/fuse it says so', async () => {
    for (const mode of ['0600', '0660']) {
      expect(await failure(start(fuseDevice(mode), AS_NOBODY))).to.equal(
        `imgfs: cannot mount: /dev/fuse is mode ${mode}: as root run chmod 0666 /dev/fuse`,
      );
    }
  });

  it('without /dev/fuse it says how to get it', async () => {
    for (const as of [[], AS_NOBODY]) {
      expect(await failure(start(NO_DEVICE, as))).to.equal(
        'imgfs: cannot mount: /dev/fuse is missing: in a container start it with --device /dev/fuse; on a host: modprobe fuse',
      );
    }
  });

  it('without fusermount3 it says how to get it', async () => {
    expect(await failure(start(NO_HELPER, AS_NOBODY))).to.equal('imgfs: fusermount3 is missing: apt install fuse3');
  });

  it('as root without the right to mount it says how to get it', async () => {
    expect(await failure(start(fuseDevice('666'), WITHOUT_ADMIN))).to.equal(
      'imgfs: cannot mount: mount(2) is not permitted: in a container start it with --device /dev/fuse --cap-add SYS_ADMIN',
    );
  });

  it('tells a user why allow_other is refused', async () => {
    const setup = `${fuseDevice('666')}\ntouch "$1/conf" && mount --bind "$1/conf" /etc/fuse.conf`;
    expect(await failure(start(setup, AS_NOBODY, { allowOther: true }))).to.equal(
      'imgfs: cannot mount: users may not use allow_other here: as root add the line user_allow_other to /etc/fuse.conf, or mount without it',
    );
  });

  it('lets users in who fuse.conf lets in', async () => {
    const setup = `${fuseDevice('666')}\necho user_allow_other > "$1/conf" && mount --bind "$1/conf" /etc/fuse.conf`;
    const mounted = await start(setup, AS_NOBODY, { allowOther: true });
    expect((await inside(mounted, 'cat', `${mounted.path}/small.raw`)).stdout.toString()).to.equal('hello\n');
    expect(await mounted.unmount(false)).to.equal('ok');
    expect(await mounted.exited).to.equal(0);
  });

  it("passes on fusermount3's own words", async () => {
    const mounted = start(fuseDevice('666'), AS_NOBODY, { mountpoint: '/opt' });
    expect(await failure(mounted)).to.match(/^imgfs: cannot mount on \/\S+: user has no write access to mountpoint/);
  });

  it('gives the set-uid helper an environment of one variable and fixed options', async () => {
    const told = await failure(start(TELLING_HELPER, AS_NOBODY, { source: '-o,suid\\', allowOther: true }));
    expect(told).to.match(
      /: _FUSE_COMMFD=3;-o rw,nosuid,nodev,fsname=-o\\,suid\\\\,subtype=imgfs,default_permissions,max_read=262144,allow_other -- \/\S+$/,
    );
  });

  it('notices an aborted connection, takes the dead mount away and fails', async function () {
    const control = '/sys/fs/fuse/connections';
    const mounted = await start(`mount -t fusectl imgfs-test ${control} || :`, []);
    const device = (await inside(mounted, 'mountpoint', '-d', mounted.path)).stdout.toString().trim();
    const abort = `${control}/${device.split(':')[1]}/abort`;
    if ((await inside(mounted, 'test', '-w', abort)).code !== 0) this.skip();
    await inside(mounted, 'sh', '-c', `echo 1 > ${abort}`);
    expect(await mounted.exited).to.equal(1);
  });
});
