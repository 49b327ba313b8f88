/** Which files a mount shows, and what stat says of them. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { fromDisks, SampleImage } from '../../src/formats/qcow2/samples/image.js';
import { forEachAdapter } from '../support/adapters.js';
import { itWhere, place } from '../support/place.js';
import { imgfs } from '../support/program.js';

const MIB = 1024 * 1024;

function disk(size: number, salt: number): Buffer {
  return Buffer.alloc(size, `${salt} is the salt of this disk, `);
}

/** All paths beneath, sorted. */
function all(directory: string): readonly string[] {
  return (fs.readdirSync(directory, { recursive: true }) as string[]).sort();
}

forEachAdapter('the mounted tree', ({ can }, option) => {
  const here = place();

  it('shows the active layer, the snapshots and the description', () => {
    const image = here.file(
      'one.qcow2',
      fromDisks([{ snapshot: 'first', disk: disk(MIB, 1) }, { disk: disk(MIB, 2) }]),
    );
    const at = here.mount(image, option);
    expect(all(at)).to.deep.equal(['disk.raw', 'info.json', 'snapshots', 'snapshots/first.raw']);
    expect(fs.readFileSync(path.join(at, 'disk.raw')).equals(disk(MIB, 2))).to.equal(true);
    expect(fs.readFileSync(path.join(at, 'snapshots/first.raw')).equals(disk(MIB, 1))).to.equal(true);
    expect(fs.readFileSync(path.join(at, 'info.json'), 'utf8')).to.equal(imgfs('info', '--json', image).stdout);
    expect(() => fs.openSync(path.join(at, 'disk.raw'), 'r+')).to.throw(/EROFS/);
    expect(() => fs.writeFileSync(path.join(at, 'new'), '')).to.throw(/EROFS/);
    expect(() => fs.statSync(path.join(at, 'absent'))).to.throw(/ENOENT/);
  });

  it('gives each of several images a directory, equal names told apart', () => {
    fs.mkdirSync(here.path('other'));
    const images = [
      here.file('same.qcow2', fromDisks([{ disk: disk(MIB, 1) }])),
      here.file('other/same.img', disk(3000, 2)),
      here.file('plain.img', disk(4000, 3)),
    ];
    const at = here.mount(images, option);
    expect(all(at)).to.deep.equal([
      ...['plain', 'plain/disk.raw', 'plain/info.json', 'same', 'same/disk.raw', 'same/info.json', 'same/snapshots'],
      ...['same~2', 'same~2/disk.raw', 'same~2/info.json'],
    ]);
    expect(fs.readFileSync(path.join(at, 'same~2/disk.raw')).equals(disk(3000, 2))).to.equal(true);
    expect(fs.readFileSync(path.join(at, 'plain/disk.raw')).equals(disk(4000, 3))).to.equal(true);
  });

  itWhere(can.fileMountpoint ? undefined : 'it needs a directory', 'makes a file the view of an image', () => {
    const image = here.file('file.qcow2', fromDisks([{ snapshot: 's', disk: disk(MIB, 1) }, { disk: disk(MIB, 2) }]));
    for (const [options, salt] of [[[], 2] as const, [['--snapshot=s'], 1] as const]) {
      const at = here.file(`flat-${salt}.raw`, 'hidden while mounted');
      expect(imgfs('mount', option, ...options, image, at)).to.include({ code: 0 });
      expect(fs.readFileSync(at).equals(disk(MIB, salt))).to.equal(true);
      expect(imgfs('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      expect(fs.readFileSync(at, 'utf8')).to.equal('hidden while mounted');
    }
    const refused = imgfs('mount', option, image, image, here.file('two.raw', ''));
    expect(refused).to.include({ code: 2 });
    expect(refused.stderr).to.equal('imgfs: a file as mountpoint can show one image only: mount on a directory\n');
  });

  it('makes disk.raw the snapshot that is asked for, by id before name', () => {
    const recipe = new SampleImage({ size: MIB }).write(0, disk(65536, 1)).snapshot('2', { id: '1' });
    const image = here.file('pick.qcow2', recipe.write(0, disk(65536, 2)).snapshot('old', { id: '2' }).build());
    for (const [wanted, salt] of [['old', 2] as const, ['1', 1] as const, ['2', 2] as const]) {
      const at = here.mount(image, option, '--snapshot', wanted);
      expect(fs.readFileSync(path.join(at, 'disk.raw')).subarray(0, 65536).equals(disk(65536, salt))).to.equal(true);
      expect(fs.statSync(path.join(at, 'disk.raw')).mtime.getTime()).to.equal((1_700_000_000 + salt - 1) * 1000);
    }
    const missing = imgfs('mount', option, '--snapshot=none', image, here.mountpoint());
    expect(missing).to.deep.equal({
      ...{ code: 1, stdout: '' },
      stderr: `imgfs: ${image} has no snapshot "none": it has "2", "old"\n`,
    });
  });

  it('takes the name of a snapshot in -o too, a comma in it behind a backslash', () => {
    const recipe = new SampleImage({ size: MIB }).write(0, disk(65536, 1)).snapshot('one, two');
    const at = here.mount(here.file('comma.qcow2', recipe.build()), option, '-o', 'ro,snapshot=one\\, two');
    expect(fs.readFileSync(path.join(at, 'disk.raw')).subarray(0, 65536).equals(disk(65536, 1))).to.equal(true);
  });

  it('shows snapshots with the size, the date and the machine state they have', () => {
    const vmState = disk(70_001, 9);
    const recipe = new SampleImage({ size: MIB }).write(0, disk(MIB, 1)).snapshot('small', { vmState });
    recipe
      .resize(3 * MIB)
      .write(2 * MIB, disk(MIB, 2))
      .snapshot('large')
      .resize(MIB / 2);
    const at = here.mount(here.file('grown.qcow2', recipe.build()), option);
    const snapshots = path.join(at, 'snapshots');
    expect(all(snapshots)).to.deep.equal(['large.raw', 'small.raw', 'small.vmstate']);
    const sizes = all(snapshots).map((name) => fs.statSync(path.join(snapshots, name)).size);
    expect(sizes).to.deep.equal([3 * MIB, MIB, vmState.length]);
    expect(fs.statSync(path.join(at, 'disk.raw')).size).to.equal(MIB / 2);
    expect(fs.readFileSync(path.join(snapshots, 'small.vmstate')).equals(vmState)).to.equal(true);
    expect(fs.readFileSync(path.join(snapshots, 'small.raw')).equals(disk(MIB, 1))).to.equal(true);
    expect(
      fs
        .readFileSync(path.join(snapshots, 'large.raw'))
        .subarray(2 * MIB)
        .equals(disk(MIB, 2)),
    ).to.equal(true);
    expect(fs.statSync(path.join(snapshots, 'large.raw')).mtime.toISOString()).to.equal('2023-11-14T22:13:21.000Z');
  });

  it('makes every snapshot reachable once, whatever its name', () => {
    const names = [
      ...['', '.', '..', '../../etc/passwd', '/', 'a\0b', 'new\nline', '%2E', '%', 'name', 'name', 'name~2', 'name'],
      ...['x'.repeat(255), 'x'.repeat(255), '\u00e9'.repeat(127), 'tab\there', ' ', '-rf', 'disk.raw', '\u202egnp.exe'],
    ].map((name) => Buffer.from(name));
    names.push(Buffer.from([0xff, 0xfe]), Buffer.from([0xff, 0xfe]), Buffer.from('%FF%FE'), Buffer.from([0xc3]));
    const recipe = new SampleImage({ size: 65536, clusterBits: 16 });
    names.forEach((name, n) => void recipe.write(0, disk(65536, n)).snapshot(name));
    const at = here.mount(here.file('names.qcow2', recipe.build()), option);
    // The raw bytes of the names, as the kernel has them.
    const found = fs.readdirSync(Buffer.from(path.join(at, 'snapshots')), 'buffer');
    expect(new Set(found.map(String)).size).to.equal(names.length);
    const contents = found.map((name) => {
      expect(name.length).to.be.at.most(255);
      expect(name.includes('/')).to.equal(false);
      return fs.readFileSync(Buffer.concat([Buffer.from(path.join(at, 'snapshots/')), name])).toString('latin1', 0, 9);
    });
    expect(contents).to.have.members(names.map((_, n) => disk(65536, n).toString('latin1', 0, 9)));
    for (const name of ['%.raw', '%2E.raw', '%2E%2E.raw', '..%2F..%2Fetc%2Fpasswd.raw', 'name.raw', 'name~2.raw']) {
      expect(found.map(String)).to.include(name);
    }
    const info = JSON.parse(fs.readFileSync(path.join(at, 'info.json'), 'utf8')) as { snapshots: { name: string }[] };
    expect(info.snapshots.map(({ name }) => name)).to.deep.equal(names.map(String));
  });

  it('tells the truth about blocks, and the cluster size as the block size of the file system', () => {
    const recipe = new SampleImage({ size: 64 * MIB, clusterBits: 15 })
      .write(MIB, disk(MIB, 1))
      .write(9 * MIB, disk(MIB, 2));
    const at = here.mount(here.file('sparse.qcow2', recipe.build()), option);
    expect(fs.statSync(path.join(at, 'disk.raw')).blocks * 512).to.equal(2 * MIB);
    const { bsize, blocks, bfree } = fs.statfsSync(at);
    expect({ bsize, blocks, bfree }).to.deep.equal({ bsize: 32768, blocks: 2048, bfree: 0 });
    expect(execFileSync('du', ['-B1', path.join(at, 'disk.raw')], { encoding: 'utf8' })).to.match(/^2097152\t/);
  });

  it('inherits owner and mode from the image, without what lets write or execute', () => {
    const image = here.file('modes.qcow2', fromDisks([{ snapshot: 's', disk: disk(MIB, 1) }, { disk: disk(MIB, 2) }]));
    fs.chmodSync(image, 0o764);
    if (process.geteuid?.() === 0) fs.chownSync(image, 1234, 2345);
    const { uid, gid, mtimeMs } = fs.statSync(image);
    const at = here.mount(image, option);
    const modes = ['', 'disk.raw', 'snapshots', 'snapshots/s.raw', 'info.json'].map((name) => {
      const status = fs.statSync(path.join(at, name));
      expect([status.uid, status.gid]).to.deep.equal([uid, gid]);
      return (status.mode % 0o1000).toString(8);
    });
    expect(modes).to.deep.equal(['555', '444', '555', '444', '444']);
    expect(fs.statSync(path.join(at, 'disk.raw')).mtimeMs).to.be.closeTo(mtimeMs, 1);
  });
});
