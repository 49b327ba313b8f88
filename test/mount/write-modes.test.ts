/** Which images can be written and which not, beside whom; caching modes; overlays. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { kernel } from '../../src/fuse/kernel/index.js';
import { CACHES } from '../../src/mount/options.js';
import { eventually, mountObstacle, place, unless } from '../support/place.js';
import { imgfs, run } from '../support/program.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { Random } from '../support/seed.js';

const MIB = 1024 * 1024;

function hash(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex');
}

function write(at: string, bytes: Uint8Array | string, view = 'disk.raw'): void {
  fs.writeFileSync(path.join(at, view), bytes, { flag: 'r+' });
}

function read(at: string, length: number, view = 'disk.raw'): string {
  return fs.readFileSync(path.join(at, view)).toString('latin1', 0, length);
}

describe('a mount that writes', () => {
  unless(mountObstacle() ?? kernel.unavailable());
  needsTool('qemu-img', 'qemu-io');
  const here = place();
  let count = 0;

  function image(format: 'qcow2' | 'raw' = 'qcow2', size = 4 * MIB): string {
    count += 1;
    const file = here.path(`disk-${count}.${format}`);
    qemuImg('create', '-q', '-f', format, file, String(size));
    return file;
  }

  /** Mounts without a word about access and returns where, and what was said. */
  function mounted(...args: readonly string[]): { readonly at: string; readonly said: string } {
    const at = here.mountpoint();
    const { code, stderr } = imgfs('mount', ...args, at);
    expect({ code, stderr }).to.include({ code: 0 });
    return { at, said: stderr };
  }

  function end(at: string): void {
    expect(imgfs('umount', at)).to.deep.equal({ code: 0, stdout: '', stderr: '' });
  }

  describe('and others', () => {
    it('is what one gets without asking, with the locks of a writer', () => {
      const file = image();
      const { at, said } = mounted(file);
      expect(said).to.equal('');
      write(at, 'written');
      const { ino } = fs.statSync(file);
      const bytes = fs
        .readFileSync('/proc/locks', 'utf8')
        .split('\n')
        .filter((line) => line.includes(`:${ino} `))
        .flatMap((line) => {
          const [first = 0, last = 0] = line.trim().split(' ').slice(-2).map(Number);
          return Array.from({ length: last - first + 1 }, (_, n) => first + n);
        });
      expect(bytes.sort()).to.deep.equal([100, 101, 103, 201, 203]);
      for (const args of [
        ['-c', 'write 0 512'],
        ['-r', '-c', 'read 0 512'],
      ]) {
        expect(run('qemu-io', ['-f', 'qcow2', ...args, file]).stderr).to.match(/Failed to get .*lock/);
      }
      expect(run('qemu-io', ['-f', 'qcow2', '-U', '-r', '-c', 'read 0 512', file]).code).to.equal(0);
      expect(imgfs('mount', file, here.mountpoint()).stderr).to.match(
        /is in use: .* \(pid \d+\) has it open for writing/,
      );
      end(at);
      qemuIo(file, ['write 0 512']);
    });

    it('is refused while QEMU writes, and is read-only while QEMU reads', async () => {
      const file = image();
      const writer = await QemuSession.open('-f', 'qcow2', file);
      for (const options of [[], ['-o', 'rw']]) {
        const { code, stderr } = imgfs('mount', ...options, file, here.mountpoint());
        expect(code).to.equal(1);
        expect(stderr).to.include(`qemu-io (pid ${writer.pid})`);
      }
      await writer.close();
      const reader = await QemuSession.open('-f', 'qcow2', '-r', file);
      expect(imgfs('mount', '-o', 'rw', file, here.mountpoint())).to.include({
        code: 1,
        stderr: `imgfs: ${file} is in use by qemu-io (pid ${reader.pid})\n`,
      });
      const { at, said } = mounted(file);
      expect(said).to.include(`${file} is mounted read-only: ${file} is in use by qemu-io (pid ${reader.pid})`);
      expect(said.split('\n').length).to.equal(2);
      expect(() => write(at, 'x')).to.throw(/EROFS|EACCES/);
      await reader.close();
    });

    it('leaves alone what another image of the same mount lies on', () => {
      const base = image();
      const top = here.path(`top-${count}.qcow2`);
      qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top);
      const { at, said } = mounted(base, top);
      expect(said).to.include(`${base} is mounted read-only: it is also used by ${top} in this mount`);
      write(at, 'top', `top-${count}/disk.raw`);
      expect(() => write(at, 'base', `disk-${count}/disk.raw`)).to.throw(/EROFS/);
      expect(read(at, 3, `top-${count}/disk.raw`)).to.equal('top');
      end(at);
    });

    it('says in one line why an image cannot be written', () => {
      const file = image();
      qemuImg('snapshot', '-c', 's', file);
      expect(mounted('--snapshot=s', file).said).to.match(/^[^\n]* is mounted read-only: a snapshot is only read\n$/);
      expect(mounted('-U', file).said).to.match(/^[^\n]* is mounted read-only: with --force-share [^\n]*\n$/);
    });

    it('keeps a disk that is only guessed to be raw from becoming an image', () => {
      const file = here.file('guessed.img', Buffer.alloc(MIB));
      const header = Buffer.alloc(512);
      header.write('QFI\u00fb\0\0\0\u0003', 'latin1');
      const guessed = mounted(file);
      expect(() => write(guessed.at, header)).to.throw(/EPERM/);
      write(guessed.at, 'anything else');
      end(guessed.at);
      expect(fs.readFileSync(file, 'latin1').slice(0, 8)).to.equal('anything');
      const declared = mounted('--format=raw', file);
      write(declared.at, header);
      end(declared.at);
      expect(fs.readFileSync(file, 'latin1').slice(0, 3)).to.equal('QFI');
    });

    it('writes data files only where that is allowed', () => {
      const file = here.path('data.qcow2');
      const data = here.path('data.bin');
      qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${data},data_file_raw=on`, file, '1M');
      const { at, said } = mounted(file);
      expect(said).to.include('is mounted read-only').and.include('if you trust it, add --writable-refs');
      end(at);
      const trusted = mounted('--writable-refs', file);
      expect(trusted.said).to.equal('');
      write(trusted.at, 'into the data file');
      end(trusted.at);
      expect(fs.readFileSync(data, 'latin1').slice(0, 18)).to.equal('into the data file');
    });

    it('keeps what was written when a signal ends it', async () => {
      const file = image();
      const { at } = mounted(file);
      write(at, Buffer.alloc(MIB, 9));
      const { pid } = here.record(at);
      process.kill(pid, 'SIGTERM');
      await eventually('it has ended', () => !fs.existsSync(`/proc/${pid}`));
      qemuImg('check', '-q', file);
      expect(qemuBytes(file, '-f', 'qcow2').subarray(0, MIB).equals(Buffer.alloc(MIB, 9))).to.equal(true);
    });
  });

  describe('with --cache', () => {
    for (const mode of Object.keys(CACHES) as (keyof typeof CACHES)[]) {
      it(`${mode}: raw of an odd size, and qcow2`, () => {
        for (const format of ['raw', 'qcow2'] as const) {
          const size = format === 'raw' ? 8 * MIB + 700 : 8 * MIB;
          const file = image(format, size);
          if (format === 'raw') fs.truncateSync(file, size);
          const { at } = mounted('--cache', mode, file);
          const model = Buffer.alloc(size);
          const random = new Random();
          const fd = fs.openSync(path.join(at, 'disk.raw'), 'r+');
          for (let n = 0; n < 30; n++) {
            const length = 1 + random.below(n % 10 === 0 ? 2 * MIB : 9000);
            const from = n === 7 ? size - length : random.below(size - length);
            const bytes = random.bytes(length);
            fs.writeSync(fd, bytes, 0, length, from);
            model.set(bytes, from);
          }
          fs.fsyncSync(fd);
          fs.closeSync(fd);
          expect(fs.readFileSync(path.join(at, 'disk.raw')).equals(model)).to.equal(true);
          end(at);
          if (format === 'raw') expect(fs.readFileSync(file).equals(model)).to.equal(true);
          else {
            qemuImg('check', '-q', file);
            expect(qemuBytes(file, '-f', 'qcow2').equals(model)).to.equal(true);
          }
        }
      });
    }

    it('none and directsync go past the page cache of the host, and an unknown mode is refused', () => {
      const flags = (at: string, file: string): string => {
        const { pid } = here.record(at);
        const fds = fs.readdirSync(`/proc/${pid}/fd`);
        const fd = fds.find((one) => fs.readlinkSync(`/proc/${pid}/fd/${one}`) === file);
        return /^flags:\s*([0-7]+)/m.exec(fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';
      };
      const direct = (at: string, file: string): boolean => Number.parseInt(flags(at, file), 8) % 0o100000 >= 0o40000;
      for (const [mode, expected] of [
        ['none', true],
        ['directsync', true],
        ['writeback', false],
      ] as const) {
        const file = image('raw');
        const { at } = mounted('--cache', mode, file);
        expect(direct(at, file), mode).to.equal(expected);
        end(at);
      }
      const { code, stderr } = imgfs('mount', '--cache', 'fast', image('raw'), here.mountpoint());
      expect(code).to.equal(2);
      expect(stderr).to.include('unknown cache mode "fast"');
    });

    it('and -o writeback_cache keeps and sends all, ended by a signal', async () => {
      const file = image();
      const { at } = mounted('-o', 'writeback_cache', file);
      const bytes = new Random().bytes(2 * MIB + 12_345);
      const fd = fs.openSync(path.join(at, 'disk.raw'), 'r+');
      for (let from = 0; from < bytes.length; from += 1000)
        fs.writeSync(fd, bytes, from, Math.min(1000, bytes.length - from), from);
      fs.fsyncSync(fd);
      fs.closeSync(fd);
      const { pid } = here.record(at);
      process.kill(pid, 'SIGTERM');
      await eventually('it has ended', () => !fs.existsSync(`/proc/${pid}`));
      expect(qemuBytes(file, '-f', 'qcow2').subarray(0, bytes.length).equals(bytes)).to.equal(true);
    });
  });

  describe('with --overlay', () => {
    it('tmp: takes writes that are gone at the end, whatever the format', () => {
      for (const format of ['qcow2', 'raw'] as const) {
        const file = image(format);
        qemuIo(file, ['write -P 65 0 1M'], ['-f', format]);
        const before = hash(file);
        const { at, said } = mounted('--overlay', 'tmp', file);
        expect(said).to.equal('');
        write(at, 'changed');
        expect(read(at, 10)).to.equal('changedAAA');
        expect(read(at, 10, `layers/0-disk-${count}.raw`)).to.equal('AAAAAAAAAA');
        end(at);
        expect(hash(file)).to.equal(before);
      }
    });

    it('FILE: keeps them in a qcow2 above the image, for its owner only, and goes on with it', () => {
      const file = image('raw');
      qemuIo(file, ['write -P 65 0 1M'], ['-f', 'raw']);
      const before = hash(file);
      const overlay = here.path(`overlay-${count}.qcow2`);
      const first = mounted('--overlay', overlay, file);
      write(first.at, 'one');
      end(first.at);
      expect(fs.statSync(overlay).mode % 0o1000).to.equal(0o600);
      qemuImg('check', '-q', overlay);
      expect(qemuImgJson('info', '--output=json', overlay)).to.include({
        'backing-filename': path.basename(file),
        'backing-filename-format': 'raw',
      });
      const second = mounted('--overlay', overlay, file);
      expect(read(second.at, 5)).to.equal('oneAA');
      end(second.at);
      expect(qemuBytes(overlay, '-f', 'qcow2').toString('latin1', 0, 5)).to.equal('oneAA');
      expect(hash(file)).to.equal(before);
      const other = image('raw');
      const refused = imgfs('mount', '--overlay', overlay, other, here.mountpoint());
      expect(refused.code).to.equal(1);
      expect(refused.stderr).to.include(`the overlay ${overlay} belongs to "${path.basename(file)}", not to ${other}`);
      const alone = image();
      expect(imgfs('mount', '--overlay', alone, other, here.mountpoint()).stderr).to.include('has no backing file');
    });

    it('a directory: one each for several images', () => {
      const files = [image(), image('raw')];
      const folder = here.path(`overlays-${count}`);
      fs.mkdirSync(folder);
      const { at } = mounted('--overlay', folder, ...files);
      for (const [n, file] of files.entries()) write(at, `disk ${n}`, `${path.parse(file).name}/disk.raw`);
      end(at);
      expect(fs.readdirSync(folder)).to.deep.equal(files.map((file) => `${path.parse(file).name}.qcow2`));
      expect(imgfs('mount', '--overlay', here.path('none'), ...files, here.mountpoint())).to.include({ code: 2 });
    });

    it('tmp above a snapshot is a writable look at the past', () => {
      const file = image();
      qemuIo(file, ['write -P 65 0 1M']);
      qemuImg('snapshot', '-c', 'then', file);
      qemuIo(file, ['write -P 66 0 1M']);
      const before = hash(file);
      const { at } = mounted('--snapshot=then', '--overlay=tmp', file);
      expect(read(at, 3)).to.equal('AAA');
      write(at, 'x');
      expect(read(at, 3)).to.equal('xAA');
      end(at);
      expect(hash(file)).to.equal(before);
      const overlay = here.path('of-a-snapshot.qcow2');
      expect(imgfs('mount', '--snapshot=then', '--overlay', overlay, file, here.mountpoint()).code).to.equal(2);
      expect(fs.existsSync(overlay)).to.equal(false);
    });
  });
});
