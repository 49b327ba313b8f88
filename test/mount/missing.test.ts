/** Machines that lack the FFI or libfuse: what works there all the same, and what is said. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { fromDisks } from '../../src/formats/qcow2/samples/image.js';
import { fuseNative } from '../../src/fuse/fuse-native/index.js';
import { Machine } from '../support/namespace.js';
import { withoutFfi } from '../support/no-ffi.js';
import { mountObstacle, needsRoot, place, unless } from '../support/place.js';
import { IMGFS, type Ran, run } from '../support/program.js';
import { needsTool } from '../support/qemu.js';

describe('imgfs without the FFI', () => {
  unless(mountObstacle() ?? fuseNative.unavailable());
  needsTool('fusermount3');
  const here = place();
  let image = '';
  let env = {};

  before(() => {
    image = here.file('disk.qcow2', fromDisks([{ disk: Buffer.alloc(9, 'disk') }]));
    env = withoutFfi(here);
  });

  const poor = (...args: readonly string[]): Ran => run(process.execPath, [IMGFS, ...args], { env });

  it('mounts through fuse-native, and says that locks are not checked', () => {
    const at = here.mountpoint();
    expect(poor('mount', '-r', image, at)).to.deep.equal({
      ...{ code: 0, stdout: '' },
      stderr:
        `imgfs: warning: locks on ${image} are not checked: the FFI (koffi) cannot be loaded\n` +
        'imgfs: warning: using fuse-native: the FFI (koffi) cannot be loaded\n',
    });
    expect(here.record(at).adapter).to.equal('fuse-native');
    expect(fs.readFileSync(path.join(at, 'disk.raw'), 'latin1')).to.equal('diskdiskd');
    expect(poor('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
  });

  it('follows no references', () => {
    here.file('base.img', Buffer.alloc(512));
    const backing = { name: 'base.img', format: 'raw' };
    const top = here.file('top.qcow2', fromDisks([{ disk: Buffer.alloc(512) }], { backing }));
    const { code, stderr } = poor('mount', '-r', top, here.mountpoint());
    expect(code).to.equal(1);
    expect(stderr).to.equal(
      `imgfs: backing file "base.img" of ${top} is refused: without the FFI (koffi) references cannot be checked\n`,
    );
  });

  it('says why the kernel adapter cannot work', () => {
    expect(poor('mount', '-r', '--adapter=kernel', image, here.mountpoint())).to.deep.equal({
      ...{ code: 1, stdout: '' },
      stderr: 'imgfs: the kernel adapter cannot work here: the FFI (koffi) cannot be loaded\n',
    });
  });

  it('still informs', () => {
    expect(poor('info', image).code).to.equal(0);
    expect(poor('list').code).to.equal(0);
    expect(poor('--help').code).to.equal(0);
  });
});

describe('imgfs without libfuse.so.2', () => {
  needsRoot();
  needsTool('unshare');
  const machine = new Machine();

  it('mounts through the kernel adapter, and prints its help', () => {
    const image = machine.here.file('disk.qcow2', fromDisks([{ disk: Buffer.alloc(9, 'disk') }]));
    const { code, stdout, stderr } = machine.run(`
      for library in $(ls /lib*/*/libfuse.so.2 /usr/lib*/*/libfuse.so.2 /usr/lib*/libfuse.so.2 2> /dev/null); do
        mount --bind /dev/null "$library" 2> /dev/null || true; done
      imgfs --help > "$HERE/help"; imgfs help mount >> "$HERE/help"
      imgfs mount -r ${image} "$HERE/mnt"; cat "$HERE/mnt/disk.raw"; imgfs umount "$HERE/mnt"`);
    expect({ code, stdout, stderr }).to.deep.equal({ code: 0, stdout: 'diskdiskd', stderr: '' });
  });
});
