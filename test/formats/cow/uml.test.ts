import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { type Layout, UML_V1_LITTLE, UML_V2, UML_V3, UML_V3_UNPACKED } from '../../../src/formats/cow/layout.js';
import { SampleImage } from '../../../src/formats/cow/sample-image.js';
import { openFile, openToWrite, readAll } from '../../support/images.js';
import { hasTool, scratch, skipBecause } from '../../support/scratch.js';
import { scribble } from '../../support/scribble.js';
import { Random } from '../../support/seed.js';

const SECTOR = 512;
/** 64 sectors to a byte of bitmap eight times: every version agrees on its length. */
const SIZE = 640 * SECTOR;
const DATE = 1_100_000_000;

const VARIANTS: readonly (readonly [string, Layout])[] = [
  ['version 1', UML_V1_LITTLE],
  ['version 2', UML_V2],
  ['version 3', UML_V3],
  ['version 3 of 64-bit hosts before 2005', UML_V3_UNPACKED],
];

describe('cow of User Mode Linux', () => {
  const directory = scratch();
  const random = new Random();
  const path = (): string => directory.path('disk.cow');
  const base = (): string => directory.path('base');

  /** A backing file of that date, and an image above it with some sectors. Returns the disk. */
  function make(layout: Layout): Buffer {
    const disk = random.bytes(SIZE);
    fs.writeFileSync(base(), disk);
    fs.utimesSync(base(), DATE, DATE);
    const image = new SampleImage({ layout, size: SIZE, backing: base(), modified: DATE });
    for (const [at, length] of [
      [0, 3],
      [70, 64],
      [639, 1],
    ] as const) {
      const bytes = random.bytes(length * SECTOR);
      image.write(at * SECTOR, bytes);
      disk.set(bytes, at * SECTOR);
    }
    fs.writeFileSync(path(), image.build());
    return disk;
  }

  /** What `uml_moo` makes of the image and the file below it. */
  function merged(): Buffer {
    const into = directory.path('merged');
    execFileSync('uml_moo', [path(), into], { stdio: 'pipe' });
    const bytes = fs.readFileSync(into);
    fs.rmSync(into);
    return bytes;
  }

  for (const [name, layout] of VARIANTS) {
    it(`${name}: uml_moo merges to the disk we read, also after we wrote it`, function () {
      skipBecause(this, hasTool('uml_moo') ? undefined : 'uml-utilities is not installed');
      const disk = make(layout);
      for (let round = 0; round < 3; round++) {
        expect(merged().equals(disk)).to.equal(true);
        const image = openToWrite(path());
        expect(readAll(image).equals(disk)).to.equal(true);
        scribble([image], disk, 60, random);
        image.close();
        fs.utimesSync(base(), DATE, DATE);
      }
      expect(merged().equals(disk)).to.equal(true);
    });

    it(`${name}: a backing file of another date or size is another disk`, () => {
      make(layout);
      fs.utimesSync(base(), DATE, DATE + 1);
      expect(() => openFile(path())).to.throw(/was changed after the image was made of it/);
      fs.utimesSync(base(), DATE, DATE);
      openFile(path()).close();
      fs.truncateSync(base(), SIZE - 1);
      fs.utimesSync(base(), DATE, DATE);
      expect(() => openFile(path())).to.throw(/is 327679 bytes long, and was 327680/);
    });
  }

  it('has a raw file below, whatever that looks like: a guest may have written it', () => {
    make(UML_V3);
    const bytes = fs.readFileSync(base());
    bytes.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]);
    fs.writeFileSync(base(), bytes);
    fs.utimesSync(base(), DATE, DATE);
    const image = openFile(path());
    expect(image.backing?.info.format).to.equal('raw');
    image.close();
  });

  it('is what uml_mkcow makes', function () {
    skipBecause(this, hasTool('uml_mkcow') ? undefined : 'uml-utilities is not installed');
    const disk = random.bytes(SIZE);
    fs.writeFileSync(base(), disk);
    fs.rmSync(path(), { force: true });
    execFileSync('uml_mkcow', [path(), base()], { stdio: 'pipe' });
    const image = openToWrite(path());
    expect(readAll(image).equals(disk)).to.equal(true);
    scribble([image], disk, 60, random);
    image.close();
    expect(merged().equals(disk)).to.equal(true);
  });
});
