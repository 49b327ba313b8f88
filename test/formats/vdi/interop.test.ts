/** QEMU as the judge: what either writes, the other reads; what we close, its check finds sound. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { formats } from '../../../src/formats/index.js';
import { vdi } from '../../../src/formats/vdi/index.js';
import { describeImage } from '../../../src/image/describe.js';
import { examineImage } from '../../../src/image/examine.js';
import { extents, type Image } from '../../../src/image/image.js';
import { openImage } from '../../../src/image/open.js';
import { drained } from '../../../src/lib/steps.js';
import { makeImage, type Wishes } from '../../support/creation.js';
import { openFile, readAll } from '../../support/images.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo, settle } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';

const MIB = 1024 * 1024;
const VDI = ['-f', 'vdi'];

/** What qemu-img check ends with. */
function checked(path: string): number | null {
  return spawnSync('qemu-img', ['check', '-q', ...VDI, path]).status;
}

function writable(path: string): Image {
  const write = { references: false, direct: false, unsafe: false, threads: false };
  const references = { follow: true, allowed: [] };
  return openImage(path, { formats, references, forceShare: false, warn: () => {}, write }).image;
}

/** The same random writes and zeros, by qemu-io or by us. */
function scribble(random: Random, size: number, write: (fill: number, at: number, length: number) => void): void {
  for (let n = 0; n < 20; n++) {
    const at = random.below(size / 512) * 512;
    const length = Math.min(size - at, (1 + random.below(n % 4 === 0 ? 5000 : 50)) * 512);
    write(random.below(4) === 0 ? 0 : 1 + random.below(250), at, length);
  }
}

function byQemu(path: string, size: number, random: Random): void {
  const commands: string[] = [];
  scribble(random, size, (fill, at, length) => commands.push(`write -P ${fill} ${at} ${length}`));
  qemuIo(path, commands, VDI);
}

function byUs(image: Image, random: Random): void {
  scribble(random, image.size, (fill, at, length) => {
    if (fill === 0) image.zero(at, length, { unmap: random.below(2) === 0 });
    else image.write(Buffer.alloc(length, fill), at);
  });
}

/** What we say of each extent, and qemu-img. */
function maps(path: string): readonly [ours: unknown, theirs: unknown] {
  settle(path);
  const image = openFile(path);
  const ours = [...extents(image)].map(({ start, length, depth, present, zero, data, offset }) => ({
    ...{ start, length, depth, present, zero, data },
    ...(offset === undefined ? {} : { offset }),
  }));
  image.close();
  return [ours, qemuImgJson('map', '--output=json', ...VDI, path)];
}

describe('vdi and QEMU', () => {
  needsTool('qemu-img', 'qemu-io');
  const files = scratch();

  for (const [name, option, size] of [
    ['dynamic', 'static=off', 7 * MIB],
    ['static', 'static=on', 7 * MIB],
    ['of part of a block', 'static=off', 5 * MIB + 1536],
  ] as const) {
    it(`made and written by QEMU, read by us: ${name}`, () => {
      const path = files.path(`qemu-${name}.vdi`);
      qemuImg('create', '-q', ...VDI, '-o', option, path, `${size}`);
      byQemu(path, size, new Random());
      const image = openFile(path);
      expect(readAll(image).equals(qemuBytes(path, ...VDI))).to.equal(true);
      image.close();
      const [ours, theirs] = maps(path);
      expect(ours).to.deep.equal(theirs);
    });

    it(`made by QEMU, written by us and by QEMU in turn: ${name}`, () => {
      const path = files.path(`turns-${name}.vdi`);
      const random = new Random();
      qemuImg('create', '-q', ...VDI, '-o', option, path, `${size}`);
      for (let turn = 0; turn < 3; turn++) {
        const image = writable(path);
        byUs(image, random);
        const shown = readAll(image);
        image.close();
        expect(checked(path)).to.equal(0);
        expect(qemuBytes(path, ...VDI).equals(shown)).to.equal(true);
        byQemu(path, size, random);
        expect(checked(path)).to.equal(0);
        const again = openFile(path);
        expect(readAll(again).equals(qemuBytes(path, ...VDI))).to.equal(true);
        again.close();
      }
    });
  }

  const wishes: readonly Wishes[] = [
    { size: 7 * MIB },
    { size: 7 * MIB, values: { static: true } },
    { size: 0 },
    { size: 300 * MIB + 512 },
  ];
  for (const wish of wishes) {
    it(`made by us as QEMU makes it, but for the UUIDs: ${JSON.stringify(wish)}`, () => {
      const [ours, theirs] = [files.path('ours.vdi'), files.path('theirs.vdi')];
      fs.writeFileSync(ours, makeImage(vdi, wish).storage.bytes());
      const option = `static=${wish.values?.static === true ? 'on' : 'off'}`;
      qemuImg('create', '-q', ...VDI, '-o', option, theirs, `${wish.size}`);
      const [a, b] = [ours, theirs].map((path) => fs.readFileSync(path).fill(0, 392, 424));
      expect(a?.equals(b as Buffer)).to.equal(true);
      expect(checked(ours)).to.equal(0);
      for (const path of [ours, theirs]) fs.rmSync(path);
    });
  }

  it('becomes larger and smaller, past the room its map has, and stays sound', () => {
    const path = files.path('sizes.vdi');
    qemuImg('create', '-q', ...VDI, path, '6M');
    byQemu(path, 6 * MIB, new Random());
    for (const size of [20 * MIB, 200 * MIB + 512, 3 * MIB, 70 * MIB, 160 * MIB]) {
      const image = writable(path);
      const before = readAll(image);
      image.resize(size);
      const kept = Math.min(before.length, size);
      const after = Buffer.alloc(kept);
      image.read(after, 0);
      expect(after.equals(before.subarray(0, kept)), `${size}`).to.equal(true);
      image.write(Buffer.alloc(3 * 512, 9), size - 3 * 512);
      const shown = readAll(image);
      image.close();
      expect(checked(path), `${size}`).to.equal(0);
      expect(qemuBytes(path, ...VDI).equals(shown), `${size}`).to.equal(true);
    }
  });

  it('is described as qemu-img describes it', () => {
    const path = files.path('described.vdi');
    qemuImg('create', '-q', ...VDI, path, '5M');
    const opened = openImage(path, { formats, references: 'unopened', forceShare: false, warn: () => {} });
    const { schema, 'exact-size': exact, ...ours } = describeImage(opened);
    opened.image.close();
    expect(ours).to.deep.equal(qemuImgJson('info', '--output=json', path));
    expect([schema, exact]).to.deep.equal(['imgfs.info/1', 5 * MIB]);
  });

  it('numbers lost by a crash are given back by a repair, after which qemu-img finds nothing', () => {
    const path = files.path('lost.vdi');
    qemuImg('create', '-q', ...VDI, path, '8M');
    qemuIo(path, ['write -P 1 0 1M', 'write -P 2 3M 1M', 'write -P 3 5M 1M'], VDI);
    const fd = fs.openSync(path, 'r+');
    // Guest block 3 was never entered, and the counter was raised ahead.
    fs.writeSync(fd, Buffer.alloc(4, 0xff), 0, 4, 512 + 3 * 4);
    fs.writeSync(fd, Buffer.from([8, 0, 0, 0]), 0, 4, 388);
    fs.closeSync(fd);
    const disk = qemuBytes(path, ...VDI);
    expect(checked(path)).to.equal(2);
    const options = { formats, forceShare: false, warn: () => {}, tell: () => {} };
    expect(drained(examineImage(path, { ...options, repair: 'none' })).report).to.include({ corruptions: 0, leaks: 6 });
    expect(drained(examineImage(path, { ...options, repair: 'leaks' })).report).to.include({ leaks: 0, leaksFixed: 6 });
    expect(checked(path)).to.equal(0);
    expect(qemuBytes(path, ...VDI).equals(disk)).to.equal(true);
  });
});
