import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { needsRoot, place } from '../support/place.js';
import { IMGFS } from '../support/program.js';
import { needsTool, qemuBytes, qemuImgJson } from '../support/qemu.js';

/** What somebody's script does in a working week; `qemu-img` is whatever stands first in PATH. */
const SCRIPT = `
set -eu
qemu-img create -q -f qcow2 base.qcow2 8M
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 3M 256k' base.qcow2 > /dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 work.qcow2
qemu-img snapshot -c before work.qcow2
qemu-io -f qcow2 -c 'write -P 3 512k 1M' -c 'write -z 3M 64k' work.qcow2 > /dev/null
qemu-img check work.qcow2 | grep -v 'end offset' > checked
qemu-img snapshot -l work.qcow2 | awk 'NR > 2 { print $2 }' > names
qemu-img convert -q -c -O qcow2 work.qcow2 packed.qcow2
qemu-img compare work.qcow2 packed.qcow2
qemu-img convert -O vmdk -o subformat=streamOptimized work.qcow2 sent.vmdk
qemu-img compare -q work.qcow2 sent.vmdk
qemu-img convert -q -l before -O raw work.qcow2 before.raw
qemu-img compare -q -f qcow2 -F raw base.qcow2 before.raw
qemu-img snapshot -d before work.qcow2
qemu-img resize -q work.qcow2 +4M
qemu-img convert -q -O qcow2 base.qcow2 moved.qcow2
qemu-img rebase -q -b moved.qcow2 -F qcow2 work.qcow2
qemu-img info --output=json work.qcow2 | grep -q '"backing-filename": "moved.qcow2"'
qemu-img map --output=json work.qcow2 > mapped
if qemu-img compare -q base.qcow2 work.qcow2; then exit 9; else test $? = 1; fi
qemu-img commit -q work.qcow2
qemu-img resize -q --shrink moved.qcow2 10M
qemu-img check -q moved.qcow2
qemu-img measure --output=json -O qcow2 moved.qcow2 > measured
qemu-img dd -O raw bs=1M count=2 if=moved.qcow2 of=head.raw
if qemu-img info nobody 2> complaint; then exit 9; else test $? = 1; fi
`;

/** Files that hold bytes for people or for another program, and not images. */
const TEXTS = ['checked', 'names', 'mapped', 'measured'];

describe('a script of qemu-img, with imgfs under that name', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const here = place();

  /** Runs it with a directory first in PATH, and returns where its files are. */
  function walk(name: string, bin: string): string {
    const cwd = here.path(name);
    fs.mkdirSync(cwd);
    const env = { ...process.env, LC_ALL: 'C', PATH: `${bin}:${process.env.PATH ?? ''}` };
    const { status, stdout, stderr } = spawnSync('sh', ['-c', SCRIPT], { cwd, env, encoding: 'utf8' });
    expect({ status, stderr }, stdout).to.deep.equal({ status: 0, stderr: '' });
    return cwd;
  }

  function imgfsAsQemuImg(): string {
    const bin = here.path('bin');
    fs.mkdirSync(bin, { recursive: true });
    if (!fs.existsSync(path.join(bin, 'qemu-img'))) fs.symlinkSync(IMGFS, path.join(bin, 'qemu-img'));
    return bin;
  }

  it('runs to its end and leaves what it leaves with qemu-img', () => {
    const [ours, theirs] = [walk('ours', imgfsAsQemuImg()), walk('theirs', '')];
    for (const name of ['base.qcow2', 'work.qcow2', 'packed.qcow2', 'moved.qcow2', 'sent.vmdk']) {
      const [own, other] = [path.join(ours, name), path.join(theirs, name)];
      expect(qemuBytes(own).equals(qemuBytes(other)), name).to.equal(true);
      const size = (file: string): unknown => (qemuImgJson('info', '--output=json', file) as Info)['virtual-size'];
      expect(size(own), name).to.equal(size(other));
    }
    for (const name of ['before.raw', 'head.raw']) {
      expect(fs.readFileSync(path.join(ours, name)).equals(fs.readFileSync(path.join(theirs, name))), name).to.equal(
        true,
      );
    }
    const text = (side: string, name: string): string => fs.readFileSync(path.join(side, name), 'utf8');
    for (const name of TEXTS) expect(parsed(text(ours, name)), name).to.deep.equal(parsed(text(theirs, name)));
    expect(fs.readdirSync(ours).sort()).to.deep.equal(fs.readdirSync(theirs).sort());
  });

  describe('and a mount in between', () => {
    needsRoot();

    it('is written through like any file', () => {
      const bin = imgfsAsQemuImg();
      const cwd = here.path('mounted');
      fs.mkdirSync(path.join(cwd, 'at'), { recursive: true });
      const script = `
set -eu
qemu-img create -q -f qcow2 base.qcow2 4M
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 work.qcow2
qemu-img mount work.qcow2 at
printf 'written through the mount' | dd of=at/disk.raw bs=1 seek=1048576 conv=notrunc,fsync 2> /dev/null
qemu-img snapshot -c taken work.qcow2
qemu-img umount at
qemu-img snapshot -l work.qcow2 | grep -q taken
qemu-img commit -q -d work.qcow2
qemu-img convert -q -O raw base.qcow2 base.raw
`;
      const env = { ...process.env, LC_ALL: 'C', PATH: `${bin}:${process.env.PATH ?? ''}` };
      const { status, stderr } = spawnSync('sh', ['-c', script], { cwd, env, encoding: 'utf8' });
      expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
      const bytes = fs.readFileSync(path.join(cwd, 'base.raw'));
      expect(bytes.indexOf('written through the mount')).to.equal(1048576);
    });
  });
});

interface Info {
  readonly 'virtual-size': number;
}

/** JSON without places, which are free; text as it is. */
function parsed(text: string): unknown {
  if (!/^[[{]/.test(text)) return text;
  return JSON.parse(text, (key, value: unknown) => (key === 'offset' || key === 'schema' ? undefined : value));
}
