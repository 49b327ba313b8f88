import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { ImgfsError } from '../../src/lib/errors.js';
import { FileStorage, fileLength } from '../../src/storage/file.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { noLoopDevices, openDescriptors, skipBecause, withLoopDevice, withScratch } from '../support/scratch.js';
import { openFile } from './implementations.js';

function reasonOf(action: () => void): string {
  try {
    action();
  } catch (error) {
    if (error instanceof ImgfsError) return error.reason;
    throw error;
  }
  return 'done';
}

describe('file storage', () => {
  it('fails where a file became shorter, rather than read zeros', () =>
    withScratch('shrink', (directory) => {
      const file = path.join(directory, 'disk');
      fs.writeFileSync(file, Buffer.alloc(100_000, 7));
      const storage = openFile(file, 'r');
      fs.truncateSync(file, 50_000);
      expect(storage.size()).to.equal(100_000);
      expect(reasonOf(() => storage.read(Buffer.alloc(100), 49_950))).to.equal('io');
      expect(reasonOf(() => storage.read(Buffer.alloc(100), 99_900))).to.equal('io');
      expect(reasonOf(() => storage.extent(60_000))).to.equal('io');
      expect(storage.read(Buffer.alloc(100), 49_900)).to.equal(100);
      expect(storage.extent(0)).to.deep.equal({ data: true, length: 50_000 });
      expect(storage.read(Buffer.alloc(100), 100_000)).to.equal(0);
      storage.close();
    }));

  it('has the host copy from another file, and nothing else', () =>
    withScratch('copy', (directory) => {
      const [one, other] = ['one', 'other'].map((name) => path.join(directory, name)) as [string, string];
      const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, n) => n % 251));
      fs.writeFileSync(one, bytes);
      fs.writeFileSync(other, '');
      const [source, target] = [openFile(one, 'r'), openFile(other)];
      expect(target.copyFrom?.(source, 1000, 5000, 90_000)).to.equal(true);
      expect(fs.readFileSync(other).equals(Buffer.concat([Buffer.alloc(5000), bytes.subarray(1000, 91_000)]))).to.equal(
        true,
      );
      expect(target.copyFrom?.(source, 99_000, 0, 2000), 'past the end').to.equal(false);
      expect(target.copyFrom?.(new MemoryStorage('memory'), 0, 0, 100), 'no file').to.equal(false);
      expect(reasonOf(() => source.copyFrom?.(target, 0, 0, 100))).to.equal('read-only');
      source.close();
      target.close();
    }));

  it('finds holes of a sparse file', () =>
    withScratch('sparse', (directory) => {
      const file = path.join(directory, 'disk');
      fs.writeFileSync(file, '');
      fs.truncateSync(file, 2 ** 20);
      const storage = openFile(file);
      storage.write(Buffer.alloc(65_536, 1), 524_288);
      expect(storage.extent(0)).to.deep.equal({ data: false, length: 524_288 });
      expect(storage.extent(524_288)).to.deep.equal({ data: true, length: 65_536 });
      expect(storage.extent(600_000)).to.deep.equal({ data: false, length: 2 ** 20 - 600_000 });
      expect(storage.allocated()).to.equal(65_536);
      // What a hole ended at may be gone when it is asked for.
      expect(storage.extent(0).length).to.equal(524_288);
      storage.discard(524_288, 8192);
      expect(storage.extent(524_288)).to.deep.equal({ data: false, length: 8192 });
      expect(storage.extent(532_480)).to.deep.equal({ data: true, length: 57_344 });
      expect(storage.extent(0).length).to.equal(532_480);
      storage.resize(100_000);
      expect(storage.extent(0)).to.deep.equal({ data: false, length: 100_000 });
      storage.close();
    }));

  it('refuses every change to a file that is open read-only', () =>
    withScratch('readonly', (directory) => {
      const file = path.join(directory, 'disk');
      fs.writeFileSync(file, 'content');
      const storage = openFile(file, 'r');
      const changes = [
        () => storage.write(Buffer.from('x'), 0),
        () => storage.flush(),
        () => storage.resize(1),
        () => storage.discard(0, 1),
        () => storage.discard(0, 0),
      ];
      for (const change of changes) expect(reasonOf(change)).to.equal('read-only');
      storage.close();
      expect(fs.readFileSync(file, 'utf8')).to.equal('content');
    }));

  it('closes its descriptor once', () =>
    withScratch('close', (directory) => {
      const file = path.join(directory, 'disk');
      fs.writeFileSync(file, '');
      const before = openDescriptors();
      const storage = openFile(file);
      storage.close();
      storage.close();
      expect(openDescriptors()).to.deep.equal(before);
    }));

  it('never claims success again after one failed flush', () => {
    const [reading, writing] = [fs.openSync('/dev/null', 'r'), fs.openSync('/dev/null', 'r+')];
    try {
      // fdatasync of a character device is EINVAL: a flush that fails.
      const storage = new FileStorage({ fd: writing, name: 'null', size: 0, writable: true });
      expect(reasonOf(() => storage.flush())).to.equal('io');
      expect(reasonOf(() => storage.write(Buffer.from('x'), 0))).to.equal('io');
      expect(reasonOf(() => storage.flush())).to.equal('io');
      expect(reasonOf(() => storage.discard(0, 1))).to.equal('io');
    } finally {
      fs.closeSync(reading);
      fs.closeSync(writing);
    }
  });

  it('says no-space where there is none', () => {
    const fd = fs.openSync('/dev/full', 'r+');
    try {
      const storage = new FileStorage({ fd, name: 'full', size: 0, writable: true });
      expect(reasonOf(() => storage.write(Buffer.from('x'), 0))).to.equal('no-space');
    } finally {
      fs.closeSync(fd);
    }
  });

  describe('on block devices', () => {
    before(function () {
      skipBecause(this, noLoopDevices());
    });

    it('asks the device for its size, at any sector size', () =>
      withScratch('device', (directory) => {
        const file = path.join(directory, 'disk');
        fs.writeFileSync(file, '');
        fs.truncateSync(file, 3 * 2 ** 30 + 8192);
        for (const sector of ['512', '4096']) {
          withLoopDevice(file, ['--sector-size', sector], (device) => {
            const fd = fs.openSync(device, 'r');
            try {
              expect(fileLength(fd, device)).to.equal(3 * 2 ** 30 + 8192);
              expect(fs.fstatSync(fd).size).to.equal(0);
              const storage = new FileStorage({ fd, name: device, size: fileLength(fd, device), writable: false });
              expect(storage.read(Buffer.alloc(100), 3 * 2 ** 30 + 8190)).to.equal(2);
              expect(storage.allocated()).to.equal(3 * 2 ** 30 + 8192);
            } finally {
              fs.closeSync(fd);
            }
          });
        }
      }));

    it('fails where a device became shorter', () =>
      withScratch('device', (directory) => {
        const file = path.join(directory, 'disk');
        fs.writeFileSync(file, Buffer.alloc(2 ** 20, 1));
        withLoopDevice(file, [], (device) => {
          const fd = fs.openSync(device, 'r');
          try {
            const storage = new FileStorage({ fd, name: device, size: 2 ** 20, writable: false });
            fs.truncateSync(file, 2 ** 19);
            execFileSync('losetup', ['--set-capacity', device]);
            expect(reasonOf(() => storage.read(Buffer.alloc(512), 2 ** 20 - 512))).to.equal('io');
          } finally {
            fs.closeSync(fd);
          }
        });
      }));
  });
});
