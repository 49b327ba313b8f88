/** Writing through real mounts, both adapters: bytes, sizes, holes, and snapshots as files. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { systemCode } from '../../src/lib/errors.js';
import { libc } from '../../src/lib/libc.js';
import { forEachAdapter } from '../support/adapters.js';
import { eventually, itWhere, place } from '../support/place.js';
import { imgfs, must, run } from '../support/program.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { Random, SEED } from '../support/seed.js';

const MIB = 1024 * 1024;
const SIZE = 32 * MIB;

/** Ends the mount, after which the image must be without a fault, leaks included. */
function ended(at: string, image: string): void {
  expect(imgfs('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
  if (image.endsWith('.qcow2')) qemuImg('check', '-q', image);
}

function hash(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex');
}

/** Sets an extended attribute, and returns how that went: `done`, or the errno's name. */
function set(file: string, value: string, name = 'user.imgfs.apply'): string | undefined {
  try {
    libc()?.setExtended(file, name, Buffer.from(value));
    return 'done';
  } catch (error) {
    return systemCode(error);
  }
}

/** Runs `body` with the view open. */
function opened<T>(file: string, flags: string | number, body: (fd: number) => T): T {
  const fd = fs.openSync(file, flags);
  try {
    return body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

forEachAdapter('writing', ({ can }, option) => {
  needsTool('qemu-img', 'qemu-io');
  const here = place();
  let count = 0;

  function image(format: 'qcow2' | 'raw'): string {
    count += 1;
    const file = here.path(`disk-${count}.${format}`);
    qemuImg('create', '-q', '-f', format, file, String(SIZE));
    return file;
  }

  for (const format of ['raw', 'qcow2'] as const) {
    it(`lands in the ${format} image, at any place and in any size`, () => {
      const file = image(format);
      const at = here.mountToWrite(file, option);
      const view = path.join(at, 'disk.raw');
      const random = new Random(SEED);
      const model = Buffer.alloc(SIZE);
      opened(view, 'r+', (fd) => {
        for (let n = 0; n < 120; n++) {
          const length = 1 + random.below(n % 10 === 0 ? 3 * MIB : 70_000);
          const from = random.below(SIZE - length);
          const bytes = random.bytes(length);
          expect(fs.writeSync(fd, bytes, 0, length, from)).to.equal(length);
          model.set(bytes, from);
          if (n % 40 === 0) fs.fsyncSync(fd);
        }
        fs.fsyncSync(fd);
      });
      expect(fs.readFileSync(view).equals(model), 'through the mount').to.equal(true);
      ended(at, file);
      expect(qemuBytes(file, '-f', format).equals(model), 'as QEMU reads it').to.equal(true);
    });
  }

  it('needs no fsync where the mount ends in order', () => {
    const file = image('qcow2');
    const at = here.mountToWrite(file, option);
    fs.writeFileSync(path.join(at, 'disk.raw'), Buffer.alloc(5 * MIB, 7), { flag: 'r+' });
    ended(at, file);
    expect(
      qemuBytes(file, '-f', 'qcow2')
        .subarray(0, 5 * MIB)
        .equals(Buffer.alloc(5 * MIB, 7)),
    ).to.equal(true);
  });

  it('passes O_DIRECT and O_SYNC', () => {
    const file = image('qcow2');
    const at = here.mountToWrite(file, option);
    const data = here.file('data', new Random(3).bytes(4 * MIB));
    const to = `of=${path.join(at, 'disk.raw')}`;
    must('dd', `if=${data}`, to, 'bs=1M', 'seek=3', 'oflag=direct', 'conv=notrunc', 'status=none');
    must('dd', `if=${data}`, to, 'bs=4k', 'count=100', 'seek=4096', 'oflag=sync', 'conv=notrunc', 'status=none');
    ended(at, file);
    const disk = qemuBytes(file, '-f', 'qcow2');
    expect(disk.subarray(3 * MIB, 7 * MIB).equals(fs.readFileSync(data))).to.equal(true);
    expect(disk.subarray(16 * MIB, 16 * MIB + 409_600).equals(fs.readFileSync(data).subarray(0, 409_600))).to.equal(
      true,
    );
  });

  it('changes no byte of an image that is only read', () => {
    const file = image('qcow2');
    qemuIo(file, ['write -P 3 1M 2M']);
    const before = hash(file);
    const at = here.mountToWrite(file, option);
    fs.readFileSync(path.join(at, 'disk.raw'));
    opened(path.join(at, 'disk.raw'), 'r+', (fd) => fs.fsyncSync(fd));
    expect(imgfs('umount', at).code).to.equal(0);
    expect(hash(file)).to.equal(before);
  });

  it('keeps the size that the disk has: no write moves the end, O_TRUNC loses nothing', () => {
    const file = image('raw');
    const at = here.mountToWrite(file, option);
    const view = path.join(at, 'disk.raw');
    fs.writeFileSync(view, 'kept', { flag: 'r+' });
    expect(() => fs.openSync(view, 'w')).to.throw(/EPERM/);
    expect(() => fs.truncateSync(view, 100)).to.throw(/EPERM/);
    const full = run('dd', ['if=/dev/zero', `of=${view}`, 'bs=1M', 'seek=31', 'conv=notrunc']);
    expect(full.stderr).to.include('No space left on device').and.include('1048576 bytes');
    expect(fs.statSync(view).size).to.equal(SIZE);
    expect(fs.readFileSync(view, 'latin1').slice(0, 4)).to.equal('kept');
    fs.truncateSync(view, SIZE);
    ended(at, file);
    expect(fs.statSync(file).size).to.equal(SIZE);
  });

  for (const format of ['raw', 'qcow2'] as const) {
    it(`grows a ${format} disk by truncate`, () => {
      const file = image(format);
      const at = here.mountToWrite(file, option);
      const view = path.join(at, 'disk.raw');
      if (format === 'qcow2') expect(() => fs.truncateSync(view, SIZE + 700)).to.throw(/EINVAL/);
      fs.truncateSync(view, SIZE + MIB);
      expect(fs.statSync(view).size).to.equal(SIZE + MIB);
      opened(view, 'r+', (fd) => fs.writeSync(fd, 'at the end', SIZE + MIB - 10));
      expect(fs.readFileSync(view).subarray(-10).toString()).to.equal('at the end');
      ended(at, file);
      expect(qemuBytes(file, '-f', format).subarray(-10).toString()).to.equal('at the end');
    });
  }

  it('lets times be set, and neither owner, mode nor names be changed', () => {
    const file = image('qcow2');
    const at = here.mountToWrite(file, option);
    const view = path.join(at, 'disk.raw');
    must('touch', view);
    expect(fs.statSync(view).mode % 0o1000).to.equal(0o644);
    for (const command of [
      ['chmod', '600', view],
      ['rm', view],
      ['mv', view, path.join(at, 'other.raw')],
      ['mkdir', path.join(at, 'new')],
      ['touch', path.join(at, 'new')],
      ['ln', '-s', 'x', path.join(at, 'snapshots/new.raw')],
    ]) {
      const [program = '', ...args] = command;
      expect(run(program, args).stderr, command.join(' ')).to.match(/not permitted|read-only/i);
    }
    expect(() => fs.openSync(path.join(at, 'info.json'), 'r+')).to.throw(/EROFS/);
    ended(at, file);
  });

  const punches = can.punchesHoles ? undefined : 'the adapter is not asked to punch';
  for (const format of ['raw', 'qcow2'] as const) {
    itWhere(punches, `punches holes and zeroes ranges of a ${format} image, and shows fewer blocks`, () => {
      const file = image(format);
      const at = here.mountToWrite(file, option);
      const view = path.join(at, 'disk.raw');
      fs.writeFileSync(view, Buffer.alloc(8 * MIB, 1), { flag: 'r+' });
      expect(fs.statSync(view).blocks * 512).to.equal(8 * MIB);
      must('fallocate', '-p', '-o', String(MIB), '-l', String(4 * MIB), view);
      expect(fs.statSync(view).blocks * 512).to.equal(4 * MIB);
      must('fallocate', '-z', '-o', String(6 * MIB - 700), '-l', String(MIB), view);
      must('fallocate', '-p', '-o', String(SIZE - MIB), '-l', String(9 * MIB), view);
      expect(run('fallocate', ['-l', '1M', view]).stderr).to.include('not supported');
      const model = Buffer.alloc(SIZE);
      model
        .fill(1, 0, MIB)
        .fill(1, 5 * MIB, 8 * MIB)
        .fill(0, 6 * MIB - 700, 7 * MIB - 700);
      expect(fs.readFileSync(view).equals(model)).to.equal(true);
      opened(view, 'r+', (fd) => fs.fsyncSync(fd));
      ended(at, file);
      expect(qemuBytes(file, '-f', format).equals(model)).to.equal(true);
      expect(fs.statSync(file).blocks * 512).to.be.below(5 * MIB);
    });
  }

  it('takes, renames and deletes snapshots as files', () => {
    const file = image('qcow2');
    const at = here.mountToWrite(file, option);
    const [view, snapshots] = [path.join(at, 'disk.raw'), path.join(at, 'snapshots')];
    const write = (value: number): void => fs.writeFileSync(view, Buffer.alloc(MIB, value), { flag: 'r+' });
    write(1);
    const { ino } = fs.statSync(view);
    must('touch', path.join(snapshots, 'one.raw'));
    write(2);
    must('touch', path.join(snapshots, 'a%2Fb.raw'));
    write(3);
    const first = (name: string): number => fs.readFileSync(path.join(snapshots, name))[MIB - 1] ?? -1;
    expect([first('one.raw'), first('a%2Fb.raw')]).to.deep.equal([1, 2]);
    const listed = qemuImgJson('info', '-U', '--output=json', file) as { snapshots: { name: string; id: string }[] };
    expect(listed.snapshots.map(({ name }) => name)).to.deep.equal(['one', 'a/b']);
    const inode = fs.statSync(path.join(snapshots, 'one.raw')).ino;

    for (const wrong of ['two', 'a%2fb.raw', '%.x', `${'x'.repeat(250)}.raw`]) {
      expect(() => fs.writeFileSync(path.join(snapshots, wrong), ''), wrong).to.throw(/EINVAL/);
    }
    expect(() => fs.openSync(path.join(snapshots, 'one.raw'), 'wx')).to.throw(/EEXIST/);
    expect(() => fs.writeFileSync(path.join(snapshots, 'new.raw'), 'bytes')).to.throw(/EROFS/);
    fs.unlinkSync(path.join(snapshots, 'new.raw'));

    expect(() => fs.renameSync(path.join(snapshots, 'one.raw'), path.join(snapshots, 'a%2Fb.raw'))).to.throw(/EEXIST/);
    expect(() => fs.renameSync(path.join(snapshots, 'one.raw'), path.join(at, 'one.raw'))).to.throw(/EPERM/);
    fs.renameSync(path.join(snapshots, 'one.raw'), path.join(snapshots, 'uno.raw'));
    expect(fs.statSync(path.join(snapshots, 'uno.raw')).ino).to.equal(inode);
    expect([fs.readdirSync(snapshots), first('uno.raw')]).to.deep.equal([['a%2Fb.raw', 'uno.raw'], 1]);

    opened(path.join(snapshots, 'uno.raw'), 'r', () => {
      expect(() => fs.unlinkSync(path.join(snapshots, 'uno.raw'))).to.throw(/EBUSY/);
    });
    fs.unlinkSync(path.join(snapshots, 'uno.raw'));
    must('touch', path.join(snapshots, 'uno.raw'));
    expect(fs.statSync(path.join(snapshots, 'uno.raw')).ino).not.to.equal(inode);
    expect([first('uno.raw'), first('a%2Fb.raw'), fs.statSync(view).ino]).to.deep.equal([3, 2, ino]);
    ended(at, file);
    const after = qemuImgJson('info', '--output=json', file) as { snapshots: { name: string }[] };
    expect(after.snapshots.map(({ name }) => name)).to.deep.equal(['a/b', 'uno']);
  });

  for (const workers of [1, 4]) {
    itWhere(
      workers > 1 && !can.threads ? 'the adapter has one thread' : undefined,
      `applies a snapshot to a disk that nobody has open, with ${workers} worker${workers > 1 ? 's' : ''}`,
      async () => {
        const base = image('qcow2');
        const file = here.path(`top-${count}.qcow2`);
        qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', file);
        const at = here.mountToWrite(file, option, `--workers=${workers}`);
        const [view, layer] = [path.join(at, 'disk.raw'), path.join(at, 'layers', `1-top-${count}.raw`)];
        const write = (value: number): void => fs.writeFileSync(view, Buffer.alloc(8 * MIB, value), { flag: 'r+' });
        /** Both views, read whole by several processes at once, so that every worker has its part. */
        const values = (): readonly string[] =>
          [view, layer].map((one) => {
            const many = Array.from({ length: 8 }, (_, n) => `dd if=${one} bs=1M count=1 skip=${n} status=none &`);
            return [...new Set(must('sh', '-c', `${many.join(' ')} wait`))].join('');
          });
        write(65);
        must('touch', path.join(at, 'snapshots/one.raw'));
        write(66);
        must('touch', path.join(at, 'snapshots/two.raw'));
        fs.truncateSync(view, SIZE + MIB);
        write(67);
        expect(values()).to.deep.equal(['C', 'C']);
        const before = fs.statSync(view);

        for (const busy of [view, layer]) {
          opened(busy, 'r', () => {
            expect(set(view, 'one')).to.equal('EBUSY');
          });
        }
        expect([set(view, 'three'), set(view, '')]).to.deep.equal(['ENOENT', 'ENOENT']);
        expect([set(layer, 'one'), set(path.join(at, 'info.json'), 'one')]).to.deep.equal(['EROFS', 'EROFS']);
        expect(set(view, 'one', 'user.other')).to.equal('EOPNOTSUPP');
        expect(values()).to.deep.equal(['C', 'C']);

        for (const [wanted, value] of [
          ['one', 'A'],
          ['2', 'B'],
          ['1', 'A'],
        ] as const) {
          await eventually('applied', () => set(view, wanted) === 'done');
          for (const one of [view, layer]) expect(fs.statSync(one).size, one).to.equal(SIZE);
          expect(values(), `after ${wanted}`).to.deep.equal([value, value]);
          expect(fs.statSync(view).blocks * 512).to.equal(8 * MIB);
        }
        const after = fs.statSync(view);
        expect([after.ino, after.mtimeMs > before.mtimeMs]).to.deep.equal([before.ino, true]);
        write(68);
        expect([...values(), fs.readFileSync(path.join(at, 'snapshots/one.raw'), 'latin1')[0]]).to.deep.equal([
          'D',
          'D',
          'A',
        ]);
        ended(at, file);
        expect(qemuBytes(file, '-f', 'qcow2').length).to.equal(SIZE);
        expect(qemuBytes(file, '-f', 'qcow2').toString('latin1', 0, 3)).to.equal('DDD');
      },
    );
  }

  it('shows what was written in every other view of the same bytes', () => {
    const base = image('qcow2');
    const top = here.path(`top-${count}.qcow2`);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top);
    const before = hash(base);
    const at = here.mountToWrite(top, option);
    const layer = path.join(at, 'layers', `1-top-${count}.raw`);
    expect(fs.readFileSync(layer)[0]).to.equal(0);
    fs.writeFileSync(path.join(at, 'disk.raw'), 'new', { flag: 'r+' });
    expect(fs.readFileSync(layer).toString('latin1', 0, 3)).to.equal('new');
    expect(() => fs.openSync(layer, 'r+')).to.throw(/EROFS|EACCES/);
    ended(at, top);
    expect(hash(base)).to.equal(before);
  });

  it('says how much room there is, which is no more than the host has', () => {
    const at = here.mountToWrite(image('qcow2'), option);
    const { bsize, blocks, bfree } = fs.statfsSync(at);
    expect([bsize, blocks]).to.deep.equal([65536, SIZE / 65536]);
    expect(bfree).to.be.within(1, blocks);
  });
});
