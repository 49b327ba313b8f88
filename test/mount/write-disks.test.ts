/** A view as the disk it is: file systems on loop devices, fio, a full host. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { kernel } from '../../src/fuse/kernel/index.js';
import { eventually, needsRoot, place, unless } from '../support/place.js';
import { imgfs, must, run } from '../support/program.js';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';
import { hasTool } from '../support/scratch.js';
import { Random } from '../support/seed.js';

const MIB = 1024 * 1024;

function hash(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex');
}

describe('a view as a disk', () => {
  needsRoot();
  unless(kernel.unavailable());
  needsTool('qemu-img', 'qemu-io', 'losetup');
  const here = place();
  let count = 0;

  function image(size: string, ...options: readonly string[]): string {
    count += 1;
    const file = here.path(`disk-${count}.qcow2`);
    qemuImg('create', '-q', '-f', 'qcow2', ...options, file, size);
    return file;
  }

  /** Runs `body` with a loop device over the file. */
  function withLoop(file: string, body: (device: string) => void): void {
    const device = must('losetup', '-f', '--show', file).trim();
    try {
      body(device);
    } finally {
      must('losetup', '-d', device);
    }
  }

  /** Runs `body` with the device's file system mounted. */
  function withFiles(device: string, body: (directory: string) => void): void {
    const directory = here.mountpoint();
    must('mount', device, directory);
    try {
      body(directory);
    } finally {
      must('umount', directory);
    }
  }

  async function ended(at: string, file: string): Promise<void> {
    // A loop device lets go a moment after it was told to.
    await eventually('the mount can be ended', () => imgfs('umount', at).code === 0);
    qemuImg('check', '-q', file);
  }

  for (const chain of [false, true]) {
    it(`holds ext4${chain ? ' above two other images, which it leaves as they are' : ''}, and shrinks when files go`, async function () {
      if (!hasTool('mkfs.ext4')) this.skip();
      let file = image('512M');
      const below: string[] = [];
      for (let depth = 0; chain && depth < 2; depth++) {
        qemuIo(file, [`write -P ${depth + 1} ${100 + depth}M 3M`]);
        below.push(file);
        file = image('512M', '-b', file, '-F', 'qcow2');
      }
      const before = below.map(hash);
      const at = here.mountToWrite(file, '--adapter=kernel');
      const data = new Random().bytes(8 * MIB);
      let most = 0;
      withLoop(path.join(at, 'disk.raw'), (device) => {
        must('mkfs.ext4', '-q', device);
        withFiles(device, (directory) => {
          for (let n = 0; n < 8; n++) fs.writeFileSync(path.join(directory, `file-${n}`), data);
          must('sync', '-f', directory);
          most = fs.statSync(file).blocks * 512;
          expect(most).to.be.at.least(64 * MIB);
          for (let n = 1; n < 8; n++) fs.unlinkSync(path.join(directory, `file-${n}`));
          must('sync', '-f', directory);
          must('fstrim', directory);
        });
        withFiles(device, (directory) => {
          expect(fs.readFileSync(path.join(directory, 'file-0')).equals(data)).to.equal(true);
        });
        must('e2fsck', '-fn', device);
      });
      expect(fs.statSync(file).blocks * 512).to.be.below(most - 50 * MIB);
      await ended(at, file);
      expect(below.map(hash)).to.deep.equal(before);
    });
  }

  for (const workers of [1, 4]) {
    it(`passes fio's verification at depth 16, with ${workers === 1 ? 'one worker' : `${workers} workers`}`, async function () {
      if (!hasTool('fio')) this.skip();
      const file = image('256M');
      const at = here.mountToWrite(file, '--adapter=kernel', `--workers=${workers}`);
      const common = [`--filename=${path.join(at, 'disk.raw')}`, '--ioengine=libaio', '--iodepth=16', '--direct=1'];
      const verified = [
        '--verify=crc32c',
        '--verify_fatal=1',
        '--verify_state_save=0',
        '--do_verify=1',
        '--randseed=7',
      ];
      must(
        'fio',
        '--name=a',
        ...common,
        ...verified,
        '--rw=randwrite',
        '--bsrange=4k-128k',
        '--size=64M',
        '--io_size=32M',
      );
      must(
        'fio',
        '--name=b',
        ...common,
        ...verified,
        '--rw=randwrite',
        '--bs=4k',
        '--offset=64M',
        '--size=32M',
        '--io_size=8M',
      );
      await ended(at, file);
    });
  }

  it('runs out of room as a disk does, and goes on when there is some again', async function () {
    if (!hasTool('mkfs.ext4')) this.skip();
    const host = here.path('host.img');
    fs.writeFileSync(host, '');
    fs.truncateSync(host, 24 * MIB);
    must('mkfs.ext4', '-q', '-O', '^has_journal', host);
    const room = here.mountpoint();
    must('mount', '-o', 'loop', host, room);
    try {
      const ballast = path.join(room, 'ballast');
      const file = path.join(room, 'disk.qcow2');
      fs.writeFileSync(ballast, Buffer.alloc(8 * MIB, 1));
      qemuImg('create', '-q', '-f', 'qcow2', file, '64M');
      const at = here.mountToWrite(file, '--adapter=kernel');
      const to = `of=${path.join(at, 'disk.raw')}`;
      const full = run('dd', ['if=/dev/zero', to, 'bs=64k', 'oflag=direct', 'conv=notrunc']);
      expect(full.stderr).to.include('No space left on device');
      fs.unlinkSync(ballast);
      must('sync', '-f', room);
      must(
        'dd',
        'if=/dev/urandom',
        to,
        'bs=64k',
        'count=40',
        'seek=900',
        'oflag=direct',
        'conv=notrunc,fsync',
        'status=none',
      );
      await ended(at, file);
    } finally {
      await eventually('the host file system is given back', () => run('umount', [room]).code === 0);
    }
  });
});
