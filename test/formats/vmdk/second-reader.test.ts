/** Byte for byte what libvmdk reads, too. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { writePacked } from '../../crash/operations.js';
import { openFile, readAll } from '../../support/images.js';
import { must, run } from '../../support/program.js';
import { needsTool, qemuImg } from '../../support/qemu.js';
import { noLoopDevices, scratch, skipBecause } from '../../support/scratch.js';
import { Random, SEED } from '../../support/seed.js';
import { KINDS, MIB, make, makeStream, openToWrite, scribble } from './disks.js';

const SIZE = 33 * MIB;

/** What libvmdk 20200926 gets wrong, by the kind of disk. */
const KNOWN: Readonly<Record<string, string>> = {
  monolithicFlat: 'it refuses flat files called -flat',
  'monolithicSparse, zeroed grains': 'it takes the entry for zeros for a place',
  'twoGbMaxExtentSparse, zeroed grains': 'it takes the entry for zeros for a place',
};

/** The disk as vmdkmount shows it: in a chain the last file is the top. */
function readWithLibvmdk(file: string, mountpoint: string): Buffer {
  fs.mkdirSync(mountpoint, { recursive: true });
  must('vmdkmount', file, mountpoint);
  try {
    const names = fs.readdirSync(mountpoint).sort();
    return fs.readFileSync(path.join(mountpoint, names.at(-1) ?? ''));
  } finally {
    run('umount', [mountpoint]);
  }
}

describe('vmdk: interop with libvmdk', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'vmdkmount');
  before(function () {
    // Mounting asks for the same rights.
    skipBecause(this, noLoopDevices());
  });
  const directory = scratch();

  function expectSame(file: string): void {
    const image = openFile(file);
    const ours = readAll(image);
    image.close();
    expect(readWithLibvmdk(file, directory.path('mounted')).equals(ours)).to.equal(true);
  }

  for (const [name, options] of Object.entries(KINDS)) {
    const why = KNOWN[name];
    it(`${name}${why === undefined ? '' : ` is not compared: ${why}`}`, () => {
      if (why !== undefined) return;
      const file = directory.path(`${name}.vmdk`);
      make(file, SIZE, options);
      const { image } = openToWrite(file);
      scribble(image, new Random(SEED));
      image.close();
      expectSame(file);
    });
  }

  it('a delta', () => {
    const random = new Random(SEED);
    const [base, delta] = [directory.path('base.vmdk'), directory.path('delta.vmdk')];
    make(base, SIZE, {});
    const below = openToWrite(base).image;
    scribble(below, random);
    below.close();
    make(delta, SIZE, {}, 'base.vmdk');
    const { image } = openToWrite(delta);
    scribble(image, random);
    image.close();
    expectSame(delta);
  });

  it('streamOptimized', () => {
    const [raw, file] = [directory.path('plain.raw'), directory.path('stream.vmdk')];
    fs.writeFileSync(
      raw,
      Buffer.concat([new Random(SEED).bytes(3 * MIB), Buffer.alloc(2 * MIB, 5), Buffer.alloc(MIB)]),
    );
    qemuImg('convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, file);
    expectSame(file);
  });

  it('streamOptimized, filled by us', () => {
    const file = directory.path('filled.vmdk');
    const random = new Random(SEED);
    makeStream(file, SIZE + 512, (image) => {
      image.write(random.bytes(MIB + 700), 5 * MIB + 300);
      writePacked(image, Buffer.alloc(MIB, 'text '), 8 * MIB);
      image.write(random.bytes(1000), SIZE - 488);
    });
    expectSame(file);
  });
});
