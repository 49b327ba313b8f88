import fs from 'node:fs';
import { expect } from 'chai';
import { eventually, mountObstacle, place, unless } from '../support/place.js';
import { imgfs as started } from '../support/program.js';
import { needsTool, qemuBytes, qemuImg, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs, imgfsJson } from '../support/resident.js';

interface Listed {
  readonly id: string;
  readonly name: string;
}

function names(path: string): readonly string[] {
  const { snapshots } = imgfsJson(['snapshot', '-l', '--json', path]) as { readonly snapshots: readonly Listed[] };
  return snapshots.map(({ id, name }) => `${id} ${name}`);
}

/** Trailing blanks are no part of a table. */
function trimmed(text: string): string {
  return text.replace(/ +$/gm, '');
}

function expectDone(...args: readonly string[]): void {
  expect(imgfs(['snapshot', ...args]), args.join(' ')).to.deep.equal({ code: 0, stdout: '', stderr: '' });
}

function expectRefused(message: RegExp, ...args: readonly string[]): void {
  const { code, stdout, stderr } = imgfs(['snapshot', ...args]);
  expect({ code, stdout }, args.join(' ')).to.deep.equal({ code: 1, stdout: '' });
  expect(stderr).to.match(/^imgfs: [^\n]*\n$/);
  expect(stderr).to.match(message);
}

describe('imgfs snapshot', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const here = place();

  afterEach(() => {
    for (const name of fs.readdirSync(here.path('.'))) fs.rmSync(here.path(name), { recursive: true });
  });

  function make(name = 'disk.qcow2', options = 'compat=1.1'): string {
    const image = here.path(name);
    qemuImg('create', '-q', '-f', 'qcow2', '-o', options, image, '4M');
    qemuIo(image, ['write -P 1 0 200k']);
    return image;
  }

  describe('-l', () => {
    it('is the table that qemu-img prints', () => {
      const image = make();
      expect(imgfs(['snapshot', '-l', image])).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      for (const name of ['one', 'with spaces in a long name', '1', '']) qemuImg('snapshot', '-c', name, image);
      const { stdout } = imgfs(['snapshot', '-l', image]);
      expect(stdout).to.equal(trimmed(qemuImg('snapshot', '-l', image)));
      expect(names(image)).to.deep.equal(['1 one', '2 with spaces in a long name', '3 1', '4 ']);
      expect(imgfsJson(['snapshot', '--output=json', '-l', image])).to.include({
        schema: 'imgfs.snapshots/1',
        filename: image,
      });
    });

    it('is empty for formats without snapshots', () => {
      fs.writeFileSync(here.path('disk.raw'), 'raw');
      expect(imgfs(['snapshot', '-l', here.path('disk.raw')])).to.include({ code: 0, stdout: '' });
      expectRefused(/raw images have no snapshots/, '-c', 'x', here.path('disk.raw'));
    });

    it('never sends a name raw to a terminal', () => {
      const image = make();
      expectDone('-c', '\x1b[2Jtwo\nlines', image);
      expect(imgfs(['snapshot', '-l', image]).stdout).to.include('\\x1b[2Jtwo\\x0alines');
    });
  });

  it('takes snapshots that qemu-img finds, reads and applies', () => {
    for (const options of ['compat=1.1', 'compat=0.10', 'extended_l2=on', 'cluster_size=512']) {
      const image = make('disk.qcow2', options);
      const before = qemuBytes(image);
      expectDone('-c', 'one', image);
      qemuIo(image, ['write -P 2 100k 200k', 'write -z 0 64k']);
      expectDone('-q', '-c', 'two', image);
      qemuImg('check', '-q', image);
      expect(trimmed(qemuImg('snapshot', '-l', image))).to.equal(imgfs(['snapshot', '-l', image]).stdout);
      expect(qemuBytes(image, '-l', 'one').equals(before), options).to.equal(true);
      qemuImg('snapshot', '-a', 'one', image);
      expect(qemuBytes(image).equals(before), options).to.equal(true);
      fs.rmSync(image);
    }
  });

  it('applies and deletes snapshots that qemu-img took', () => {
    const image = make();
    qemuImg('snapshot', '-c', 'one', image);
    const before = qemuBytes(image);
    qemuIo(image, ['write -P 2 100k 200k']);
    qemuImg('resize', '-q', image, '8M');
    qemuImg('snapshot', '-c', 'two', image);
    expectDone('-a', 'one', image);
    expect(qemuBytes(image).equals(before)).to.equal(true);
    qemuImg('check', '-q', image);
    expectDone('-d', 'one', image);
    expectDone('-d', 'two', image);
    expect(imgfs(['snapshot', '-l', image]).stdout).to.equal('');
    qemuImg('check', '-q', image);
    expect(qemuBytes(image).equals(before)).to.equal(true);
  });

  it('renames, and keeps everything else', () => {
    const image = make();
    expectDone('-c', 'one', image);
    const before = trimmed(qemuImg('snapshot', '-l', image));
    expectDone('--rename', 'one', 'uno', image);
    expect(trimmed(qemuImg('snapshot', '-l', image))).to.equal(before.replace('one', 'uno'));
    expectDone(image, '--rename', '1', '-dash');
    expect(names(image)).to.deep.equal(['1 -dash']);
    expectDone('--rename=-dash', 'last', image);
    expect(names(image)).to.deep.equal(['1 last']);
    qemuImg('check', '-q', image);
  });

  it('knows ids and names as qemu-img does: to apply by id or else name, to delete by name or else id', () => {
    const [image, theirs] = [make(), here.path('theirs.qcow2')];
    for (const [name, pattern] of [
      ['one', 1],
      ['1', 2],
      ['three', 3],
    ] as const) {
      qemuIo(image, [`write -P ${pattern} 0 64k`]);
      expectDone('-c', name, image);
    }
    fs.copyFileSync(image, theirs);
    expectDone('-a', '1', image);
    qemuImg('snapshot', '-a', '1', theirs);
    expect(qemuBytes(image).equals(qemuBytes(theirs))).to.equal(true);
    expectDone('-a', 'three', image);
    expectDone('-d', '1', image);
    qemuImg('snapshot', '-d', '1', theirs);
    expect(names(image)).to.deep.equal(names(theirs)).and.to.deep.equal(['1 one', '3 three']);
    // Here qemu-img finds nothing.
    expectDone('-d', '3', image);
    expect(names(image)).to.deep.equal(['1 one']);
  });

  it('ends with 1 for what is not there or not clear', () => {
    const image = make();
    expectDone('-c', 'one', image);
    for (const action of ['-a', '-d']) expectRefused(/has no snapshot "two": it has "one"/, action, 'two', image);
    expectRefused(/has no snapshot "two"/, '--rename', 'two', 'three', image);
    expect(imgfs(['snapshot', image]).stdout).to.match(/^Snapshot list:/);
    expectRefused(/one of them/, '-l', '-c', 'x', image);
    expectRefused(/one of them|missing/, '--rename', 'one', image);
    expectRefused(/--force-share/, '-U', '-c', 'x', image);
    expectRefused(/no such file/, '-c', 'x', here.path('gone.qcow2'));
    expect(names(image)).to.deep.equal(['1 one']);
  });

  it('opens the one file: what lies below it may be gone', () => {
    make('base.qcow2');
    const image = here.path('top.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', image);
    fs.renameSync(here.path('base.qcow2'), here.path('away'));
    expectDone('-c', 'one', image);
    expectDone('-c', 'two', image);
    expectDone('-a', 'one', image);
    expectDone('-d', 'one', image);
    fs.renameSync(here.path('away'), here.path('base.qcow2'));
    qemuImg('check', '-q', image);
    expect(qemuBytes(image).equals(qemuBytes(here.path('base.qcow2')))).to.equal(true);
  });

  it('an image that somebody writes is listed, with a warning, and not changed', async () => {
    const image = make();
    expectDone('-c', 'one', image);
    const session = await QemuSession.open('-f', 'qcow2', image);
    try {
      const listed = imgfs(['snapshot', '-l', image]);
      expect(listed.code).to.equal(0);
      expect(listed.stderr).to.match(/^imgfs: warning: .*qemu-io/);
      expect(imgfs(['snapshot', '-l', '-U', image])).to.include({ code: 0, stderr: '' });
      expectRefused(/in use by qemu-io/, '-c', 'two', image);
    } finally {
      await session.close();
    }
  });

  describe('in a live mount', () => {
    unless(mountObstacle());

    for (const how of ['by its image', 'by its mountpoint'] as const) {
      it(`${how}: lists, takes, renames and deletes through it`, () => {
        const image = make();
        expectDone('-c', 'before', image);
        const mounted = here.mountToWrite(image);
        const it = how === 'by its image' ? image : mounted;
        expectDone('-c', 'a/b', it);
        expectDone('-c', 'two', it);
        expect(names(it)).to.deep.equal(['1 before', '2 a/b', '3 two']);
        expect(fs.readdirSync(`${mounted}/snapshots`).sort()).to.deep.equal(['a%2Fb.raw', 'before.raw', 'two.raw']);
        expectRefused(/one of that name/, '-c', 'two', it);
        expectDone('--rename', 'two', '50%', it);
        expectRefused(/has a snapshot "before" already/, '--rename', '50%', 'before', it);
        expectDone('-d', 'a/b', it);
        expectDone('-d', '1', it);
        expect(names(it)).to.deep.equal(['3 50%']);
        expect(imgfs(['snapshot', '-l', it]).stdout).to.match(/^Snapshot list:\nID .*\n3 +50% +0 B .*\n$/);
        expect(started('umount', mounted).code).to.equal(0);
        qemuImg('check', '-q', image);
        expect(names(image)).to.deep.equal(['3 50%']);
      });
    }

    it('applies one to the disk that is mounted, unless somebody has that open', async () => {
      const image = make();
      const mounted = here.mountToWrite(image);
      const disk = `${mounted}/disk.raw`;
      const write = (text: string): void => fs.writeFileSync(disk, text, { flag: 'r+' });
      write('one');
      expectDone('-c', 'one', image);
      fs.truncateSync(disk, 8 * 1024 * 1024);
      write('two');
      const fd = fs.openSync(disk, 'r');
      expectRefused(/disk.raw: it is open$/m, '-a', 'one', image);
      fs.closeSync(fd);
      await eventually('applied', () => imgfs(['snapshot', '-a', 'one', image]).code === 0);
      const bytes = fs.readFileSync(disk);
      expect([bytes.length, bytes.toString('latin1', 0, 3)]).to.deep.equal([4 * 1024 * 1024, 'one']);
      expectRefused(/has no snapshot "two": it has "one"/, '-a', 'two', mounted);
      expect(started('umount', mounted).code).to.equal(0);
      qemuImg('check', '-q', image);
      expect(qemuBytes(image).equals(bytes)).to.equal(true);
    });

    it('does not apply one of another size where the kernel keeps written pages', () => {
      const image = make();
      const mounted = here.mountToWrite(image, '-o', 'writeback_cache');
      expectDone('-c', 'one', image);
      expectDone('-a', 'one', image);
      fs.truncateSync(`${mounted}/disk.raw`, 8 * 1024 * 1024);
      expectRefused(/cannot show a disk of another size: end it with imgfs umount/, '-a', 'one', image);
    });

    it('does not delete a snapshot that is open', async () => {
      const image = make();
      const mounted = here.mountToWrite(image);
      expectDone('-c', 'one', image);
      const fd = fs.openSync(`${mounted}/snapshots/one.raw`, 'r');
      expectRefused(/it is open/, '-d', 'one', image);
      fs.closeSync(fd);
      // The kernel tells of the last close a moment later.
      await eventually('deleted', () => imgfs(['snapshot', '-d', 'one', image]).code === 0);
      expect(names(image)).to.deep.equal([]);
    });

    it('of several images: each by its image or its directory', () => {
      const images = [make('a.qcow2'), make('b.qcow2')];
      const mounted = here.mountToWrite(images);
      expectDone('-c', 'one', images[1] ?? '');
      expectDone('-c', 'two', `${mounted}/b`);
      expect(names(images[0] ?? '')).to.deep.equal([]);
      expect(names(`${mounted}/b`)).to.deep.equal(['1 one', '2 two']);
      expectRefused(/shows several images/, '-c', 'x', mounted);
    });

    it('on a file: only listed', () => {
      const image = make();
      expectDone('-c', 'one', image);
      const file = here.file('view', '');
      expect(started('mount', image, file).code).to.equal(0);
      const { code, stdout, stderr } = imgfs(['snapshot', '-l', file]);
      expect(code).to.equal(0);
      expect(stdout).to.include('one');
      expect(stderr).to.match(/^imgfs: warning: /);
      for (const path of [image, file]) {
        for (const action of ['-c', '-a']) expectRefused(/is mounted on/, action, 'one', path);
      }
    });

    it('that is read-only, or writes to an overlay: the image is listed and stays as it is', () => {
      const mounts = [
        (image: string) => here.mount(image),
        (image: string) => here.mountToWrite(image, '--overlay', 'tmp'),
      ];
      for (const mount of mounts) {
        const image = make();
        expectDone('-c', 'one', image);
        const bytes = fs.readFileSync(image);
        const mounted = mount(image);
        expect(names(image)).to.deep.equal(['1 one']);
        for (const action of [
          ['-c', 'two'],
          ['-d', 'one'],
          ['-a', 'one'],
          ['--rename', 'one', 'x'],
        ]) {
          expectRefused(/mounted on .*: end that with imgfs umount/, ...action, image);
        }
        expect(imgfs(['resize', image, '8M']).stderr).to.match(/mounted on .*: end that with imgfs umount/);
        expect(started('umount', mounted).code).to.equal(0);
        expect(fs.readFileSync(image).equals(bytes)).to.equal(true);
        fs.rmSync(image);
      }
    });
  });
});
