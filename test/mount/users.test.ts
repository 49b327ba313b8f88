/** Ordinary users, and what root's mounts let them see. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect } from 'chai';
import { fromDisks } from '../../src/formats/qcow2/samples/image.js';
import { forEachAdapter } from '../support/adapters.js';
import { fuseDevice, Machine, USER } from '../support/namespace.js';
import { itWhere, needsRoot } from '../support/place.js';
import { run } from '../support/program.js';
import { needsTool } from '../support/qemu.js';

/** Why root cannot know who serves another user's mount; undefined where the kernel tells. */
const TELLS_SERVERS = olderThan(6, 16) ? 'the kernel does not tell who serves a mount (before 6.16)' : undefined;

function olderThan(major: number, minor: number): boolean {
  const [ours = 0, within = 0] = os.release().split('.').map(Number);
  return ours < major || (ours === major && within < minor);
}

const AS_USER = ['setpriv', `--reuid=${USER}`, `--regid=${USER}`, '--clear-groups'];

forEachAdapter('an ordinary user', ({ name }, option) => {
  needsRoot();
  needsTool('unshare', 'setpriv', 'fusermount3');
  const machine = new Machine();
  let image = '';

  before(() => {
    image = machine.here.file('disk.qcow2', fromDisks([{ disk: Buffer.alloc(100_000, 'disk ') }]));
  });

  it('mounts, reads, lists and unmounts with no root anywhere', () => {
    const { code, stdout, stderr } = machine.run(`
      ${fuseDevice('0666')}
      userfs mount ${option} ${image} "$HERE/mnt"
      user head -c 9 "$HERE/mnt/disk.raw"; echo
      user stat -c %a "$HERE/mnt/disk.raw"
      grep " $HERE/mnt " /proc/mounts | cut -d' ' -f 1,3,4
      userfs list | tail -1 | tr -s ' ' | cut -d' ' -f 1,3,4
      cat "$HERE/mnt/disk.raw" 2>&1 || echo root may not
      ls "$HERE/run/imgfs"/*.json | wc -l
      userfs umount "$HERE/mnt"
      ls "$HERE/run/imgfs" "$HERE/mnt"; grep -c " $HERE/mnt " /proc/mounts || true`);
    const lines = stdout.trim().split('\n');
    expect(stderr).to.equal(
      `imgfs: warning: ${image} is mounted read-only: cannot open ${image} for writing: permission denied\n` +
        'imgfs: only you can read the views: losetup and mount, as root, need -o allow_other here\n',
    );
    expect(code).to.equal(0);
    expect(lines.slice(0, 2)).to.deep.equal(['disk disk', '444']);
    expect(lines[2]).to.match(new RegExp(`^${image} fuse\\.imgfs ro,nosuid,nodev,.*user_id=${USER},`));
    expect(lines[3]).to.equal(`${machine.here.path('machine/mnt')} ${name} ${image}`);
    expect(lines[4]).to.include('Permission denied');
    expect(lines.slice(5, 7)).to.deep.equal(['root may not', '1']);
    expect(lines.at(-1)).to.equal('0');
  });

  it('is told what /dev/fuse lacks', () => {
    const { stdout, stderr } = machine.run(
      `${fuseDevice('0600')}\n userfs mount ${option} ${image} "$HERE/mnt" || echo $?`,
    );
    expect(stderr).to.equal('imgfs: cannot mount: /dev/fuse is mode 0600: as root run chmod 0666 /dev/fuse\n');
    expect(stdout).to.equal('1\n');
  });

  it('is told why allow_other is refused, and has it where it is allowed', () => {
    const refused = machine.run(
      `${fuseDevice('0666')}\n userfs mount ${option} -o allow_other ${image} "$HERE/mnt" || echo $?`,
    );
    expect(refused.stderr).to.match(/^imgfs: cannot mount.*allow_other.*: .*user_allow_other.*\n$/);
    expect(refused.stdout).to.equal('1\n');
    const allowed = machine.run(`
      ${fuseDevice('0666')}
      echo user_allow_other > "$HERE/conf"; mount --bind "$HERE/conf" /etc/fuse.conf
      userfs mount ${option} -r -o allow_other ${image} "$HERE/mnt"
      head -c 9 "$HERE/mnt/disk.raw"; grep " $HERE/mnt " /proc/mounts | grep -o "[^ ]*allow_other"
      userfs umount "$HERE/mnt"`);
    expect(allowed).to.include({ code: 0, stderr: '' });
    expect(allowed.stdout).to.match(/^disk disk.*default_permissions,allow_other/);
  });

  it('is told in one line when the mountpoint is not theirs', () => {
    const { stdout, stderr } = machine.run(`
      ${fuseDevice('0666')}
      mkdir "$HERE/root"; userfs mount ${option} ${image} "$HERE/root" || echo $?`);
    expect(stderr).to.match(/^imgfs: cannot mount on [^\n]*\/root: [^\n]*write[^\n]*\n$/);
    expect(stdout).to.equal('1\n');
  });

  it('has mounts that root can end, even when their process is dead', () => {
    const { code, stdout } = machine.run(`
      ${fuseDevice('0666')}
      userfs mount ${option} -r ${image} "$HERE/mnt"
      imgfs umount "$HERE/mnt"; grep -c " $HERE/mnt " /proc/mounts || true
      userfs mount ${option} -r ${image} "$HERE/mnt"
      kill -9 $(userfs list | tail -1 | tr -s ' ' | cut -d' ' -f 2); sleep 0.3
      imgfs umount "$HERE/mnt"; grep -c " $HERE/mnt " /proc/mounts || true`);
    expect([code, stdout]).to.deep.equal([0, '0\n0\n']);
  });

  itWhere(TELLS_SERVERS, 'has mounts that root can end, and then their image is free', () => {
    const slow = `process.on('exit', () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500))`;
    const { code, stdout } = machine.run(`
      ${fuseDevice('0666')}
      echo "${slow}" > "$HERE/slow.mjs"
      user env NODE_OPTIONS="--import=$HERE/slow.mjs" "$NODE" "$IMGFS" mount ${option} -r ${image} "$HERE/mnt"
      pid=$(userfs list | tail -1 | tr -s ' ' | cut -d' ' -f 2)
      test -e /proc/$pid/exe
      imgfs umount "$HERE/mnt"
      test -e /proc/$pid/exe && echo still there || echo gone`);
    expect([code, stdout]).to.deep.equal([0, 'gone\n']);
  });

  it('clears a dead mount of theirs without root', () => {
    const { code, stdout } = machine.run(`
      ${fuseDevice('0666')}
      for how in mount umount; do
        userfs mount ${option} -r ${image} "$HERE/mnt"
        kill -9 $(userfs list | tail -1 | tr -s ' ' | cut -d' ' -f 2); sleep 0.3
        test $how = umount || userfs mount ${option} -r ${image} "$HERE/mnt"
        userfs umount "$HERE/mnt"
      done
      grep -c " $HERE/mnt " /proc/mounts || true`);
    expect([code, stdout]).to.deep.equal([0, '0\n']);
  });

  it('keeps no records where somebody else could write them', () => {
    const { stdout, stderr } = machine.run(`
      ${fuseDevice('0666')}
      mkdir -m 777 "$HERE/run/imgfs"; userfs mount ${option} ${image} "$HERE/mnt" || echo $?`);
    expect(stderr).to.equal(
      `imgfs: ${machine.here.path('machine/run/imgfs')} is not a private directory of yours: remove it\n`,
    );
    expect(stdout).to.equal('1\n');
  });
});

forEachAdapter('a mount by root', (_, option) => {
  needsRoot();
  needsTool('setpriv');
  const { here } = new Machine();

  const readable = (file: string): string => run(AS_USER[0]!, [...AS_USER.slice(1), 'head', '-c', '4', file]).stdout;

  it('shows other users the images they may read, and only those', () => {
    const bytes = fromDisks([
      { snapshot: 's', disk: Buffer.alloc(70_000, 'disk') },
      { disk: Buffer.alloc(70_000, 'disk') },
    ]);
    const [open, closed] = [here.file('open.qcow2', bytes), here.file('closed.qcow2', bytes)];
    fs.chmodSync(open, 0o644);
    fs.chmodSync(closed, 0o600);
    const at = here.mount([open, closed], option);
    expect(readable(path.join(at, 'open/disk.raw'))).to.equal('disk');
    expect(readable(path.join(at, 'open/snapshots/s.raw'))).to.equal('disk');
    for (const name of ['disk.raw', 'snapshots/s.raw', 'info.json']) {
      expect(readable(path.join(at, 'closed', name))).to.equal('');
    }
    expect(fs.readFileSync(path.join(at, 'closed/disk.raw'), 'latin1').slice(0, 4)).to.equal('disk');
  });

  it('shows no layer of a chain that its own file would not show', () => {
    const backing = { name: 'base.img', format: 'raw' };
    fs.chmodSync(here.file('base.img', Buffer.alloc(65536, 'secret')), 0o640);
    const top = here.file('top.qcow2', fromDisks([{ disk: Buffer.alloc(65536) }], { backing }));
    fs.chmodSync(top, 0o644);
    const at = here.mount(top, option);
    for (const name of ['disk.raw', 'layers/0-base.raw', 'layers/1-top.raw']) {
      expect(readable(path.join(at, name)), name).to.equal('');
    }
  });

  it('has its options in the mount table', () => {
    const image = here.file('table.qcow2', fromDisks([{ disk: Buffer.alloc(1000) }]));
    const options = (at: string): readonly (string | undefined)[] => {
      const lines = fs
        .readFileSync('/proc/mounts', 'utf8')
        .split('\n')
        .map((line) => line.split(' '));
      return lines.find(([, where]) => where === at) ?? [];
    };
    const [source, , type, shared] = options(here.mount(image, option));
    expect([source, type]).to.deep.equal([image, 'fuse.imgfs']);
    expect(shared?.split(',')).to.include.members(['ro', 'nosuid', 'nodev', 'default_permissions', 'allow_other']);
    const [, , , own] = options(here.mount(image, option, '-o', 'noallow_other'));
    expect(own?.split(',')).to.include.members(['ro', 'nosuid', 'nodev', 'default_permissions']);
    expect(own).not.to.include('allow_other');
  });
});
