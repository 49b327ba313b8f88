/** Filling a streamOptimized disk: once, from front to back; QEMU reads it as we do. */
import fs from 'node:fs';
import { expect } from 'chai';
import { pack } from '../../../src/codec/pack.js';
import { copyDisk } from '../../../src/convert/copy.js';
import { JoinedDisk } from '../../../src/convert/joined.js';
import type { Image } from '../../../src/image/image.js';
import { data, hole, MadeDisk, type Run } from '../../convert/made-disk.js';
import { writePacked } from '../../crash/operations.js';
import { openFile, readAll } from '../../support/images.js';
import { outcome } from '../../support/outcome.js';
import { needsTool, qemuBytes, qemuImg, qemuIo } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random } from '../../support/seed.js';
import { AS_VMDK, MIB, make, makeStream, openToWrite } from './disks.js';

const KIB = 1024;
const GRAIN = 64 * KIB;
const TIB = 2 ** 40;

const AS_ALWAYS = { targetIsZero: true, topLayer: false, sparse: 4096, byHost: false, outOfOrder: false };

describe('vmdk: filling a stream', () => {
  needsTool('qemu-img');
  const directory = scratch();
  const file = (): string => directory.path('stream.vmdk');

  function expectDisk(disk: Buffer): void {
    const image = openFile(file());
    expect(image.info.specific?.data['create-type']).to.equal('streamOptimized');
    expect(readAll(image).equals(disk)).to.equal(true);
    image.close();
    expect(qemuBytes(file(), ...AS_VMDK).equals(disk)).to.equal(true);
    expect(qemuImg('check', ...AS_VMDK, file())).to.include('No errors');
  }

  it('packed units, parts of units, and what is left out', () => {
    const random = new Random();
    const disk = Buffer.alloc(34 * MIB + 512);
    makeStream(file(), disk.length, (image) => {
      const put = (at: number, bytes: Buffer, packed: boolean): void => {
        disk.set(bytes, at);
        if (packed) writePacked(image, bytes, at);
        else image.write(bytes, at);
      };
      put(300, random.bytes(5000), false);
      put(4096, Buffer.alloc(100, 'back in the same grain '), false);
      put(3 * GRAIN, Buffer.alloc(4 * GRAIN, 'text '), true);
      put(7 * GRAIN + 512, random.bytes(GRAIN), false);
      // From the open grain on into the next ones.
      put(8 * GRAIN + 512, random.bytes(2 * GRAIN), false);
      image.flush();
      // Another table, behind a flush.
      put(33 * MIB, random.bytes(GRAIN), true);
      put(34 * MIB + 1, Buffer.alloc(511, 1), false);
      expect(readAll(image).equals(disk)).to.equal(true);
    });
    expectDisk(disk);
  });

  it('by copying, whatever the disk: holes, zeros, no whole unit at the end, nothing at all', () => {
    const disks: readonly (readonly Run[])[] = [
      [data(1000 * KIB + 512, 7)],
      [hole(3 * MIB), data(20 * KIB, 1), hole(GRAIN * 2 - 4 * KIB), data(512, 2), hole(700 * KIB)],
      [hole(MIB)],
    ];
    for (const [runs, pack] of disks.flatMap((runs) => [[runs, true] as const, [runs, false] as const])) {
      const source = new MadeDisk(runs);
      makeStream(file(), source.size, (image) => {
        for (const _ of copyDisk(new JoinedDisk([source]), image, { ...AS_ALWAYS, pack }));
      });
      const bytes = Buffer.alloc(source.size);
      source.read(bytes, 0);
      expectDisk(bytes);
    }
  });

  it('5 TiB with two grains in it is small', () => {
    const text = Buffer.alloc(GRAIN, 'f');
    makeStream(file(), 5 * TIB, (image) => {
      image.write(text, TIB);
      writePacked(image, text, 5 * TIB - GRAIN);
    });
    expect(fs.statSync(file()).size).to.be.below(MIB);
    const image = openFile(file());
    const found = Buffer.alloc(GRAIN * 2);
    image.read(found, 5 * TIB - GRAIN * 2);
    expect(found.equals(Buffer.concat([Buffer.alloc(GRAIN), text]))).to.equal(true);
    image.read(found, TIB);
    expect(found.equals(Buffer.concat([text, Buffer.alloc(GRAIN)]))).to.equal(true);
    image.close();
    const at = [`read -P 102 ${TIB} 64k`, `read -P 0 ${TIB + GRAIN} 1M`, `read -P 102 ${5 * TIB - GRAIN} 64k`];
    qemuIo(file(), at, AS_VMDK);
  });

  it('above a parent, zeros that hide something are stored', () => {
    const base = directory.path('base.vmdk');
    make(base, MIB, {});
    const below = openToWrite(base).image;
    below.write(Buffer.alloc(MIB, 'below '), 0);
    below.close();
    const disk = Buffer.alloc(MIB, 'below ');
    const fill = (image: Image): void => {
      image.write(Buffer.from('part of a grain'), GRAIN + 100);
      image.zero(2 * GRAIN, GRAIN, { unmap: true });
    };
    disk.write('part of a grain', GRAIN + 100);
    disk.fill(0, 2 * GRAIN, 3 * GRAIN);
    makeStream(file(), MIB, fill, 'base.vmdk');
    expectDisk(disk);
  });

  it('what was written stays: going back is refused, and so is writing it later', () => {
    const packed = pack('zlib', Buffer.alloc(GRAIN, 1)) ?? Buffer.alloc(0);
    makeStream(file(), MIB, (image) => {
      expect(image.packing).to.deep.equal({ unit: GRAIN, method: 'zlib', always: true });
      image.write(Buffer.alloc(GRAIN, 2), 4 * GRAIN);
      image.writePacked(packed, 4 * GRAIN);
      image.write(Buffer.alloc(512, 3), 5 * GRAIN);
      image.zero(0, 4 * GRAIN, { unmap: true });
      image.zero(5 * GRAIN, GRAIN, { unmap: true });
      for (const backwards of [
        () => image.write(Buffer.alloc(1), 0),
        () => image.write(Buffer.alloc(1), 4 * GRAIN),
        () => image.writePacked(packed, 4 * GRAIN),
        () => image.zero(4 * GRAIN, GRAIN, { unmap: true }),
        () => image.resize(2 * MIB),
      ]) {
        expect(outcome(backwards)).to.equal('unsupported');
      }
    });
    const disk = Buffer.alloc(MIB).fill(1, 4 * GRAIN, 5 * GRAIN);
    expectDisk(disk);
    expect(() => openToWrite(file())).to.throw(/stream optimized.*can only be read/);
  });
});
