/** Differencing images: their parents are found by UUID among the files beside them, and nowhere else. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { formats } from '../../../src/formats/index.js';
import { build, pattern, type SampleOptions, shown } from '../../../src/formats/vdi/samples/build.js';
import { describeImage } from '../../../src/image/describe.js';
import { type OpenedImage, type OpenOptions, openImage } from '../../../src/image/open.js';
import { reopenImage } from '../../../src/image/plan.js';
import { readAll } from '../../support/images.js';
import { failure, outcome } from '../../support/outcome.js';
import { openDescriptors, withScratch } from '../../support/scratch.js';

const BLOCK = 4096;
const SHAPE = { size: 4 * BLOCK, blockSize: BLOCK };
const base: SampleOptions = { ...SHAPE, uuid: 21, modified: 22, entries: [0, 1, 2, 3] };
const middle: SampleOptions = {
  ...SHAPE,
  type: 'differencing',
  ...{ uuid: 31, modified: 32, link: 21, parentModified: 22 },
  entries: ['free', 0, 'zero', 'free'],
};
const top: SampleOptions = {
  ...SHAPE,
  type: 'differencing',
  ...{ uuid: 41, modified: 42, link: 31, parentModified: 32 },
  entries: ['free', 'free', 'free', 0],
};
const disks = { base: pattern(4 * BLOCK, 1), middle: pattern(4 * BLOCK, 2), top: pattern(4 * BLOCK, 3) };
const below = shown(middle, disks.middle, disks.base);
const expected = shown(top, disks.top, below);

interface Place {
  readonly home: string;
  put(name: string, bytes: Uint8Array): string;
}

/** A directory with a chain of three in it, under names that say nothing. */
function within(body: (place: Place) => void): void {
  withScratch('vdi', (directory) => {
    const home = path.join(directory, 'Machine');
    fs.mkdirSync(home);
    const put = (name: string, bytes: Uint8Array): string => {
      fs.writeFileSync(path.join(home, name), bytes);
      return path.join(home, name);
    };
    put('{b}.vdi', build(base, disks.base));
    put('a.VDI', build(middle, disks.middle));
    put('top.vdi', build(top, disks.top));
    body({ home, put });
  });
}

function open(file: string, more: Partial<OpenOptions> = {}): OpenedImage {
  const references = { follow: true, allowed: [] };
  return openImage(file, { formats, references, forceShare: false, warn: () => {}, ...more });
}

/** The disk; nothing stays open, whatever happens. */
function look(file: string, more: Partial<OpenOptions> = {}): Buffer {
  const before = openDescriptors();
  try {
    const { image } = open(file, more);
    const disk = readAll(image);
    image.close();
    return disk;
  } finally {
    expect(openDescriptors()).to.deep.equal(before);
  }
}

describe('vdi: chains', () => {
  it('are found beside the image, layer by layer', () =>
    within(({ home }) => {
      const file = path.join(home, 'top.vdi');
      expect(look(file).equals(expected)).to.equal(true);
      const { image, chain } = open(file);
      expect(chain.map((each) => path.basename(each.path))).to.deep.equal(['top.vdi', 'a.VDI', '{b}.vdi']);
      const { backing } = image;
      expect(backing !== undefined && readAll(backing).equals(below)).to.equal(true);
      image.close();
    }));

  it('are written at their top only; threads find what the main thread found', () =>
    within(({ home }) => {
      const file = path.join(home, 'top.vdi');
      const lower = ['{b}.vdi', 'a.VDI'].map((name) => fs.readFileSync(path.join(home, name)));
      const write = { references: false, direct: false, unsafe: false, threads: true };
      const { image, plan } = open(file, { write });
      const other = reopenImage(plan, formats);
      image.write(Buffer.alloc(700, 7), BLOCK + 100);
      other.zero(0, BLOCK, { unmap: false });
      const disk = Buffer.from(expected)
        .fill(7, BLOCK + 100, BLOCK + 800)
        .fill(0, 0, BLOCK);
      for (const one of [image, other]) expect(readAll(one).equals(disk)).to.equal(true);
      other.close();
      image.close();
      expect(look(file).equals(disk)).to.equal(true);
      for (const [n, name] of ['{b}.vdi', 'a.VDI'].entries()) {
        expect(fs.readFileSync(path.join(home, name)).equals(lower[n] as Buffer)).to.equal(true);
      }
    }));

  it('are found elsewhere where the user says so, as VirtualBox keeps snapshots in a folder', () =>
    within(({ home }) => {
      fs.mkdirSync(path.join(home, 'Snapshots'));
      for (const name of ['top.vdi', 'a.VDI']) fs.renameSync(path.join(home, name), path.join(home, 'Snapshots', name));
      const file = path.join(home, 'Snapshots/top.vdi');
      const error = failure(() => look(file));
      expect(error?.reason).to.equal('missing');
      expect(error?.message).to.match(/no \.vdi file in .*Snapshots is the parent image "[0-9a-f-]{36}" of /);
      expect(error?.hint).to.include('--allow-refs');
      expect(look(file, { references: { follow: true, allowed: [home] } }).equals(expected)).to.equal(true);
    }));

  it('are not looked for with --no-refs, nor to describe the image', () =>
    within(({ home }) => {
      const file = path.join(home, 'top.vdi');
      expect(outcome(() => look(file, { references: { follow: false, allowed: [] } }))).to.equal('refused');
      const opened = open(file, { references: 'unopened' });
      expect(describeImage(opened)['format-specific']?.data).to.include({ type: 'differencing' });
      opened.image.close();
    }));

  it('refuse a parent that two files say they are; a second name of one file is no second file', () =>
    within(({ home, put }) => {
      const file = path.join(home, 'top.vdi');
      fs.linkSync(path.join(home, 'a.VDI'), path.join(home, 'again.vdi'));
      expect(look(file).equals(expected)).to.equal(true);
      put('copy.vdi', fs.readFileSync(path.join(home, 'a.VDI')));
      expect(outcome(() => look(file))).to.equal('refused');
    }));

  it('refuse a parent that was written since', () =>
    within(({ home }) => {
      const write = { references: false, direct: false, unsafe: false, threads: false };
      open(path.join(home, '{b}.vdi'), { write }).image.close();
      expect(look(path.join(home, 'top.vdi')).equals(expected), 'only looked at').to.equal(true);
      const { image } = open(path.join(home, '{b}.vdi'), { write });
      image.write(Buffer.alloc(512), 0);
      image.close();
      const error = failure(() => look(path.join(home, 'top.vdi')));
      expect(error?.reason).to.equal('corrupt');
      expect(error?.message).to.include('was written after the image was made');
    }));

  it('that lead in a circle end', () =>
    within(({ home, put }) => {
      put('self.vdi', build({ ...top, uuid: 51, link: 51, parentModified: 0 }, disks.top));
      expect(outcome(() => look(path.join(home, 'self.vdi')))).to.equal('refused');
      put('one.vdi', build({ ...top, uuid: 61, link: 62, parentModified: 0 }, disks.top));
      put('two.vdi', build({ ...top, uuid: 62, link: 61, parentModified: 0 }, disks.top));
      expect(outcome(() => look(path.join(home, 'one.vdi')))).to.equal('refused');
    }));

  it('pass over what may not be opened: pipes, links that lead out, what is no VDI', () =>
    within(({ home, put }) => {
      const outside = path.join(home, '../secret.vdi');
      fs.writeFileSync(outside, build(middle, disks.top));
      fs.symlinkSync(outside, path.join(home, '0.vdi'));
      execFileSync('mkfifo', [path.join(home, '1.vdi')]);
      fs.mkdirSync(path.join(home, '2.vdi'));
      fs.symlinkSync('nowhere', path.join(home, '3.vdi'));
      put('4.vdi', Buffer.from('short'));
      put('5.vdi', Buffer.alloc(1000, 7));
      put('6.raw', build(middle, disks.top));
      expect(look(path.join(home, 'top.vdi')).equals(expected)).to.equal(true);
      fs.rmSync(path.join(home, 'a.VDI'));
      expect(outcome(() => look(path.join(home, 'top.vdi')))).to.equal('missing');
    }));

  it('are looked for among 1,024 files, not among more', () =>
    within(({ home, put }) => {
      const file = path.join(home, 'top.vdi');
      for (let n = 3; n < 1024; n++) put(`z${n}.vdi`, Buffer.alloc(0));
      expect(look(file).equals(expected)).to.equal(true);
      put('one-more.vdi', Buffer.alloc(0));
      expect(outcome(() => look(file))).to.equal('limit');
    }));
});
