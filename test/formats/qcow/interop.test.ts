import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { qcow } from '../../../src/formats/qcow/index.js';
import { writePacked } from '../../crash/operations.js';
import { expectAsQemu, infoOf, qemuInfo } from '../../support/as-qemu.js';
import { makeImage } from '../../support/creation.js';
import { EncryptedQemu, openEncrypted, passwordFile } from '../../support/encrypted.js';
import { openFile, openToWrite, readAll } from '../../support/images.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo } from '../../support/qemu.js';
import { hasTool, scratch, skipBecause } from '../../support/scratch.js';
import { scribble } from '../../support/scribble.js';
import { Random } from '../../support/seed.js';

const MIB = 1024 * 1024;
const QCOW = ['-f', 'qcow'];

/** Random writes by QEMU, some compressed; QEMU compresses only into clusters that are not allocated yet. */
function scribbleByQemu(path: string, size: number, random: Random): void {
  const { 'cluster-size': unit } = qemuImgJson('info', '--output=json', path) as { 'cluster-size': number };
  const pick = (): number => random.below(Math.max(1, Math.floor(size / unit) - 40)) * unit;
  const chosen = new Set(Array.from({ length: 8 }, pick));
  qemuIo(
    path,
    [...chosen].map((at) => `write -c -P ${1 + random.below(250)} ${at} ${Math.min(unit, size - at)}`),
    QCOW,
  );
  const writes = Array.from({ length: 20 }, (_, n) => {
    const at = random.below(size / 512) * 512;
    const length = Math.min(size - at, (1 + random.below(n % 3 === 0 ? 300 : 20)) * 512);
    return `write -P ${1 + random.below(250)} ${at} ${length}`;
  });
  qemuIo(path, writes, QCOW);
}

describe('qcow as qemu-img makes it', function () {
  this.timeout(30_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const random = new Random();

  for (const size of [6 * MIB, 5 * MIB + 512 * 3, 512]) {
    it(`${size} bytes`, () => {
      const path = directory.path('image.qcow');
      qemuImg('create', '-q', ...QCOW, path, String(size));
      expectAsQemu(path, 'qcow');
      if (size > MIB) scribbleByQemu(path, size, random);
      expectAsQemu(path, 'qcow');
    });
  }

  it('compressed as a whole', () => {
    const [source, path] = [directory.path('source.raw'), directory.path('packed.qcow')];
    fs.writeFileSync(source, Buffer.concat(Array.from({ length: 300 }, () => Buffer.alloc(4096, random.bytes(40)))));
    // qemu-img 7.2 ends with 1 although the image is right.
    try {
      qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow', source, path);
    } catch {}
    expectAsQemu(path, 'qcow');
  });

  it('above a backing file whose format nobody tells', () => {
    const [base, path] = [directory.path('base.qcow2'), directory.path('top.qcow')];
    qemuImg('create', '-q', '-f', 'qcow2', base, '3M');
    qemuIo(base, ['write -P 7 0 1M', 'write -P 8 2M 70000']);
    qemuImg('create', '-q', ...QCOW, '-b', base, '-F', 'qcow2', path, '4M');
    expectAsQemu(path, 'qcow');
    scribbleByQemu(path, 4 * MIB, random);
    expectAsQemu(path, 'qcow');
  });

  it('what is below may not name anything further: a guest may have written it', () => {
    const [bottom, base, path] = [directory.path('bottom'), directory.path('middle'), directory.path('upper.qcow')];
    fs.writeFileSync(bottom, Buffer.alloc(MIB, 1));
    qemuImg('create', '-q', '-f', 'qcow2', '-b', bottom, '-F', 'raw', base);
    qemuImg('create', '-q', ...QCOW, '-b', base, '-F', 'qcow2', path);
    expect(() => openFile(path)).to.throw(/was named without its format and names/);
  });

  it('encrypted: told without the passphrase, read with it', () => {
    const path = directory.path('encrypted.qcow');
    const qemu = new EncryptedQemu('qcow', passwordFile(directory.path('secret')));
    qemu.create(path, 'encrypt.format=aes,encrypt.key-secret=s', 3 * MIB + 512);
    qemu.io(path, 'write -P 0x5a 1k 70k', 'write -P 0x77 1M 1M', `write -P 3 ${3 * MIB} 512`);
    const closed = openFile(path);
    expect(infoOf(closed)).to.deep.equal(qemuInfo(path));
    expect(() => closed.read(new Uint8Array(1), 0)).to.throw(/encrypted, and no passphrase was given/);
    closed.close();
    const image = openEncrypted(path);
    const disk = qemu.bytes(path);
    expect(readAll(image).equals(disk)).to.equal(true);
    expect(readAll(image, 333).equals(disk)).to.equal(true);
    image.close();
  });

  it('encrypted, and a cluster compressed all the same: refused where it is read, and only there', () => {
    const path = directory.path('mixed.qcow');
    const qemu = new EncryptedQemu('qcow', passwordFile(directory.path('secret')));
    qemu.create(path, 'encrypt.format=aes,encrypt.key-secret=s', MIB);
    // qemu-img refuses to make such an image; the driver beneath it does not.
    qemu.io(path, 'write -c -P 0x5a 0 4k', 'write -P 0x77 4k 4k');
    const image = openEncrypted(path, { write: true });
    expect(() => image.read(new Uint8Array(1), 0)).to.throw(/the L2 entry for guest offset 0 is invalid/);
    expect(() => image.write(new Uint8Array(1), 0)).to.throw(/the L2 entry for guest offset 0 is invalid/);
    const after = Buffer.alloc(4096);
    image.read(after, 4096);
    expect(after.every((byte) => byte === 0x77)).to.equal(true);
    image.close();
  });
});

describe('qcow as imgfs makes it', function () {
  this.timeout(30_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();

  for (const size of [1, 512, MIB, 5 * MIB + 1024, 3 * 2 ** 30]) {
    it(`is what qemu-img makes of ${size} bytes, byte for byte`, () => {
      const path = directory.path('theirs.qcow');
      qemuImg('create', '-q', ...QCOW, path, String(size));
      expect(makeImage(qcow, { size }).storage.bytes().equals(fs.readFileSync(path))).to.equal(true);
    });
  }

  it('is that above a backing file too, but for the date that QEMU no longer writes', () => {
    const path = directory.path('theirs.qcow');
    fs.writeFileSync(directory.path('base.raw'), Buffer.alloc(MIB));
    qemuImg('create', '-q', ...QCOW, '-b', 'base.raw', '-F', 'raw', path);
    const backing = { name: 'base.raw', format: 'raw', image: undefined, modified: 1_234_567_890 };
    const ours = makeImage(qcow, { size: MIB, backing }).storage.bytes();
    expect(ours.readUInt32BE(20)).to.equal(1_234_567_890);
    ours.writeUInt32BE(0, 20);
    expect(ours.equals(fs.readFileSync(path))).to.equal(true);
  });

  for (const [option, value] of [
    ['encrypt.format', 'aes'],
    ['encryption', true],
  ] as const) {
    it(`is that with ${option} too`, () => {
      const path = directory.path('theirs.qcow');
      const qemu = new EncryptedQemu('qcow', passwordFile(directory.path('secret')));
      qemu.create(path, `${option}=${value === true ? 'on' : value},encrypt.key-secret=s`, 5 * MIB + 1024);
      const { storage } = makeImage(qcow, { size: 5 * MIB + 1024, values: { [option]: value } });
      expect(storage.bytes().equals(fs.readFileSync(path))).to.equal(true);
    });
  }

  it('cannot be encrypted by anything but AES', () => {
    const luks = { values: { 'encrypt.format': 'luks' } };
    expect(() => makeImage(qcow, luks)).to.throw(/option encrypt\.format cannot be "luks"/);
  });
});

describe('qcow written by imgfs and by QEMU in turn', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();

  for (const backed of [false, true]) {
    it(backed ? 'above a backing file' : 'alone', () => {
      const random = new Random();
      const [base, path] = [directory.path('base.raw'), directory.path('disk.qcow')];
      const size = 5 * MIB + 512 * 7;
      fs.writeFileSync(base, random.bytes(3 * MIB + 512));
      qemuImg('create', '-q', ...QCOW, ...(backed ? ['-b', base, '-F', 'raw'] : []), path, String(size));
      const disk = qemuBytes(path, ...QCOW);
      for (let round = 0; round < 3; round++) {
        const image = openToWrite(path);
        expect(readAll(image).equals(disk)).to.equal(true);
        scribble([image], disk, 60, random);
        image.close();
        expect(qemuBytes(path, ...QCOW).equals(disk)).to.equal(true);
        expectAsQemu(path, 'qcow');
        scribbleAgain(path, disk, random);
      }
    });
  }

  /** QEMU writes into what we made; `disk` learns it by reading. */
  function scribbleAgain(path: string, disk: Buffer, random: Random): void {
    for (let n = 0; n < 6; n++) {
      const at = random.below(disk.length / 512) * 512;
      const length = Math.min(disk.length - at, 512 * (1 + random.below(50)));
      qemuIo(path, [`write -P ${n + 1} ${at} ${length}`], QCOW);
      disk.fill(n + 1, at, at + length);
    }
    expect(qemuBytes(path, ...QCOW).equals(disk)).to.equal(true);
  }

  for (const backed of [false, true]) {
    it(`encrypted, ${backed ? 'above a backing file' : 'alone'}`, () => {
      const random = new Random();
      const [base, path] = [directory.path('base.raw'), directory.path('sealed.qcow')];
      const size = 5 * MIB + 512 * 7;
      const qemu = new EncryptedQemu('qcow', passwordFile(directory.path('secret')));
      fs.writeFileSync(base, random.bytes(3 * MIB + 512));
      const options = 'encrypt.format=aes,encrypt.key-secret=s';
      qemu.create(path, options, size, ...(backed ? ['-b', base, '-F', 'raw'] : []));
      const disk = qemu.bytes(path);
      for (let round = 0; round < 3; round++) {
        const image = openEncrypted(path, { write: true });
        expect(readAll(image).equals(disk)).to.equal(true);
        scribble([image], disk, 60, random);
        expect(readAll(image, 333).equals(disk)).to.equal(true);
        image.close();
        expect(qemu.bytes(path).equals(disk)).to.equal(true);
        const writes = Array.from({ length: 6 }, (_, n) => {
          const at = random.below(size / 512) * 512;
          const length = Math.min(size - at, 512 * (1 + random.below(50)));
          disk.fill(n + 1, at, at + length);
          return `write -P ${n + 1} ${at} ${length}`;
        });
        qemu.io(path, ...writes);
      }
      expect(qemu.bytes(path).equals(disk)).to.equal(true);
    });
  }

  it('after it was made larger', () => {
    const random = new Random();
    const path = directory.path('grown.qcow');
    qemuImg('create', '-q', ...QCOW, path, '3M');
    let disk = Buffer.alloc(3 * MIB);
    for (const size of [3 * MIB + 512, 7 * MIB, 200 * MIB]) {
      const image = openToWrite(path);
      scribble([image], disk, 20, random);
      image.resize(size);
      disk = Buffer.concat([disk, Buffer.alloc(size - disk.length)]);
      scribble([image], disk, 20, random);
      image.close();
      expect(qemuBytes(path, ...QCOW).equals(disk), `${size} bytes`).to.equal(true);
    }
    expectAsQemu(path, 'qcow');
  });
});

describe('qcow as libqcow reads it', function () {
  this.timeout(30_000);
  const directory = scratch();
  before(function () {
    skipBecause(this, hasTool('qcowmount') ? undefined : 'libqcow-utils is not installed');
    skipBecause(this, fs.existsSync('/dev/fuse') ? undefined : 'there is no /dev/fuse');
  });

  it('is what we wrote, compressed clusters included', () => {
    const random = new Random();
    const path = directory.path('disk.qcow');
    qemuImg('create', '-q', ...QCOW, path, '6M');
    scribbleByQemu(path, 6 * MIB, random);
    const image = openToWrite(path);
    const disk = readAll(image);
    scribble([image], disk, 60, random);
    disk.fill('packed by us', MIB + 700, 2 * MIB);
    writePacked(image, disk.subarray(MIB, 2 * MIB), MIB);
    image.close();
    expect(readByLibqcow(path).equals(disk)).to.equal(true);
  });

  function readByLibqcow(path: string): Buffer {
    const mountpoint = directory.path('mnt');
    fs.mkdirSync(mountpoint);
    execFileSync('qcowmount', [path, mountpoint]);
    try {
      return fs.readFileSync(`${mountpoint}/qcow1`);
    } finally {
      execFileSync('umount', [mountpoint]);
      fs.rmdirSync(mountpoint);
    }
  }
});
