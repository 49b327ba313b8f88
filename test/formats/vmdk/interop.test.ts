/** Both directions between imgfs and qemu-img, for every kind of disk. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { samples } from '../../../src/formats/vmdk/samples.js';
import { describeImage } from '../../../src/image/describe.js';
import { openFile, readAll } from '../../support/images.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo } from '../../support/qemu.js';
import { scratch, withScratch } from '../../support/scratch.js';
import { Random, SEED } from '../../support/seed.js';
import {
  AS_VMDK,
  findings,
  KINDS,
  MIB,
  make,
  openToWrite,
  optionText,
  putFiles,
  scribble,
  scribbleWithQemu,
} from './disks.js';

/** What QEMU 7.2 does otherwise with such an image. */
const NOT_COMPARED: readonly (readonly [RegExp, string])[] = [
  [/directory past the end/, 'QEMU does not use the second directory'],
  [/custom|Shift_JIS/, 'QEMU does not know such descriptors'],
  [/COWD|seSparse/, 'QEMU opens such extents through a descriptor only: below'],
  [/without a descriptor|an entry of 1 without/, 'QEMU opens no disk without a descriptor'],
  [/without markers/, 'QEMU must be told how long a stream is'],
];

/** More than one grain table, and an end inside a grain. */
const SIZE = 33 * MIB + 512 * 3;

/** The same disk, whoever reads it. */
function expectSame(file: string): void {
  const image = openFile(file);
  const ours = readAll(image);
  image.close();
  const theirs = qemuBytes(file, ...AS_VMDK);
  expect(ours.length).to.equal(theirs.length);
  if (!ours.equals(theirs)) expect.fail(`differs from ${ours.findIndex((byte, n) => byte !== theirs[n])} on`);
}

function expectSound(file: string): void {
  qemuImg('check', ...AS_VMDK, file);
  expect(findings(file)).to.deep.equal([]);
}

/** `info` has QEMU's keys and values; it looks at one file, so of extents elsewhere it knows what their lines say. */
function expectInfo(file: string): void {
  const opened = openToWrite(file);
  const ours = describeImage(opened)['format-specific'];
  opened.image.close();
  const theirs = qemuImgJson('info', '--output=json', ...AS_VMDK, file) as { 'format-specific': object };
  expect(ours).to.deep.equal(theirs['format-specific']);
}

describe('vmdk: interop with qemu-img', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  let files = 0;
  const fresh = (): string => directory.path(`disk${files++}.vmdk`);

  for (const [name, options] of Object.entries(KINDS)) {
    it(`made by qemu-img, written by qemu-io and by us: ${name}`, () => {
      const random = new Random(SEED);
      const file = fresh();
      qemuImg('create', '-q', ...AS_VMDK, '-o', optionText(options), file, String(SIZE));
      scribbleWithQemu(file, SIZE, random);
      expectSame(file);
      expectInfo(file);
      const { image } = openToWrite(file);
      scribble(image, random);
      image.close();
      expectSound(file);
      expectSame(file);
      scribbleWithQemu(file, SIZE, random);
      expectSound(file);
      expectSame(file);
    });

    it(`made and written by us, then by qemu-io: ${name}`, () => {
      const random = new Random(SEED + 1);
      const file = fresh();
      make(file, SIZE, options);
      expectSound(file);
      const { image } = openToWrite(file);
      scribble(image, random);
      const disk = readAll(image);
      image.close();
      expectSound(file);
      expect(qemuBytes(file, ...AS_VMDK).equals(disk)).to.equal(true);
      qemuIo(file, ['write -P 9 1M 300k', 'read -P 9 1M 300k'], AS_VMDK);
      expectSound(file);
      expectSame(file);
    });
  }

  for (const options of [{}, { zeroed_grain: true }]) {
    it(`deltas of either's making: ${optionText(options)}`, () => {
      const random = new Random(SEED + 2);
      const [base, ours, theirs] = [fresh(), fresh(), fresh()];
      qemuImg('create', '-q', ...AS_VMDK, '-o', optionText(options), base, String(SIZE));
      scribbleWithQemu(base, SIZE, random);
      make(ours, SIZE, options, path.basename(base));
      const inItsPlace = { cwd: path.dirname(base) };
      expect(inItsPlace.cwd).to.equal(path.dirname(theirs));
      qemuImg('create', '-q', ...AS_VMDK, '-o', optionText(options), '-b', base, '-F', 'vmdk', theirs);
      for (const file of [ours, theirs]) {
        expectSame(file);
        const { image } = openToWrite(file);
        scribble(image, random);
        image.close();
        expectSound(file);
        expectSame(file);
        scribbleWithQemu(file, SIZE, random);
        expectSound(file);
        expectSame(file);
      }
    });
  }

  it('streamOptimized is read, and refused to writers by its name', () => {
    const [raw, file] = [directory.path('plain.raw'), fresh()];
    fs.writeFileSync(
      raw,
      Buffer.concat([new Random(SEED).bytes(3 * MIB), Buffer.alloc(2 * MIB, 5), Buffer.alloc(MIB)]),
    );
    qemuImg('convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=streamOptimized', raw, file);
    expectSame(file);
    expect(findings(file)).to.deep.equal([]);
    expect(() => openToWrite(file)).to.throw(/stream optimized.*can only be read/);
  });

  for (const sample of samples.good()) {
    const why = NOT_COMPARED.find(([name]) => name.test(sample.name))?.[1];
    it(`the sample "${sample.name}" ${why === undefined ? 'reads the same' : `is not compared: ${why}`}`, () => {
      if (why !== undefined) return;
      withScratch('vmdk', (home) => {
        const files = [{ name: 'disk.vmdk', bytes: () => sample.image }, ...(sample.beside ?? [])];
        const file = putFiles(home, files);
        expect(qemuBytes(file, ...AS_VMDK).equals(Buffer.from(sample.disk))).to.equal(true);
      });
    });
  }

  for (const kind of ['COWD', 'seSparse']) {
    const sample = samples.good().find(({ name }) => name === kind);
    it(`${kind} behind a descriptor reads the same`, () => {
      withScratch('vmdk', (home) => {
        const sectors = (sample?.disk.length ?? 0) / 512;
        const [type, line] = kind === 'COWD' ? ['vmfsSparse', 'VMFSSPARSE'] : ['seSparse', 'SESPARSE'];
        const text = `# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="${type}"\nRW ${sectors} ${line} "part.vmdk"\n`;
        const file = putFiles(home, [
          { name: 'disk.vmdk', bytes: () => Buffer.from(text) },
          { name: 'part.vmdk', bytes: () => sample?.image ?? Buffer.alloc(0) },
        ]);
        expectSame(file);
      });
    });
  }

  it('grows as qemu-img sees it', () => {
    for (const options of [{}, { subformat: 'monolithicFlat' }]) {
      const file = fresh();
      make(file, SIZE, options);
      const { image } = openToWrite(file);
      image.write(Buffer.alloc(MIB, 3), SIZE - MIB);
      image.resize(100 * MIB);
      image.write(Buffer.alloc(MIB, 4), 99 * MIB);
      image.close();
      expectSound(file);
      expectSame(file);
      expect((qemuImgJson('info', '--output=json', file) as { 'virtual-size': number })['virtual-size']).to.equal(
        100 * MIB,
      );
      qemuIo(
        file,
        ['write -P 5 70M 1M', 'read -P 4 99M 1M', `read -P 3 ${SIZE - MIB} 1M`, 'read -P 5 70M 1M'],
        AS_VMDK,
      );
      expectSound(file);
    }
  });

  it('a disk of 5 GiB in three extents', () => {
    for (const subformat of ['twoGbMaxExtentSparse', 'twoGbMaxExtentFlat']) {
      const file = fresh();
      make(file, 5 * 1024 * MIB, { subformat });
      const { image } = openToWrite(file);
      const edge = 2048 * MIB;
      image.write(Buffer.alloc(MIB, 7), edge - MIB / 2);
      image.write(Buffer.alloc(512, 8), 2 * edge - 512);
      image.close();
      qemuIo(file, [`read -P 7 ${edge - MIB / 2} 1M`, `read -P 8 ${2 * edge - 512} 512`, 'read -P 0 0 1M'], AS_VMDK);
      expectSound(file);
    }
  });
});
