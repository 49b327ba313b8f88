import fs from 'node:fs';
import { expect } from 'chai';
import { needsTool, qemuImg, qemuImgJson, settle } from '../support/qemu.js';
import { imgfs, imgfsJson } from '../support/resident.js';
import { scratch } from '../support/scratch.js';
import { RECIPES, type Recipe } from './images.js';

interface Entry {
  readonly start: number;
  readonly length: number;
  readonly compressed?: true;
}

function recipe(name: string): Recipe {
  const found = RECIPES.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`no recipe is called ${name}`);
  return found;
}

/** Our entries without the key that qemu-img 7.2 does not have. */
function map(...args: readonly string[]): readonly Entry[] {
  return (imgfsJson(['map', '--json', ...args]) as Entry[]).map(({ compressed: _, ...rest }) => rest);
}

function qemuMap(...args: readonly string[]): readonly Entry[] {
  return qemuImgJson('map', '--output=json', ...args) as Entry[];
}

describe('imgfs map', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  afterEach(() => {
    for (const name of fs.readdirSync(at('.'))) fs.rmSync(at(name), { recursive: true });
  });

  describe('--json is what qemu-img prints', () => {
    for (const { name, make, infoOnly } of RECIPES) {
      if (infoOnly !== undefined) continue;
      it(name, () => {
        const image = make(at);
        settle(image);
        expect(map(image)).to.deep.equal(qemuMap(image));
        const { stdout } = imgfs(['map', '--output=json', image]);
        expect(stdout.replaceAll(', "compressed": true', '')).to.equal(qemuImg('map', '--output=json', image));
      });
    }
  });

  it('a range of the disk, sizes in every spelling', () => {
    const image = recipe('chain of three').make(at);
    settle(image);
    const all: readonly (readonly string[])[] = [
      ['-s', '64k'],
      ['-s', '1k', '-l', '0.5M'],
      ['--start-offset=0x10000', '--max-length=131072'],
      ['--start-offset', '100', '--max-length', '1000'],
      ['-l', '1T'],
    ];
    for (const range of all) expect(map(...range, image), range.join(' ')).to.deep.equal(qemuMap(...range, image));
  });

  it('one extent of no length of an empty range', () => {
    const image = recipe('qcow2').make(at);
    for (const range of [
      ['-s', '1G'],
      ['-l', '0'],
    ]) {
      expect(map(...range, image), range.join(' ')).to.deep.equal(qemuMap(...range, image));
    }
  });

  it('ends where the disk ends, where qemu-img ends with the sector', () => {
    fs.writeFileSync(at('odd.raw'), Buffer.alloc(10_001, 1));
    expect(map(at('odd.raw')).at(-1)).to.include({ length: 10_001 });
    expect(qemuMap('-f', 'raw', at('odd.raw')).reduce((sum, { length }) => sum + length, 0)).to.equal(10_240);
  });

  it('marks compressed ranges', () => {
    const entries = imgfsJson(['map', '--json', recipe('compressed with zlib').make(at)]) as Entry[];
    expect(entries.filter(({ compressed }) => compressed)).to.have.lengthOf.above(0);
    expect(entries.filter((entry) => 'compressed' in entry && entry.compressed !== true)).to.deep.equal([]);
  });

  describe('as text', () => {
    for (const name of ['qcow2', 'raw, sparse', 'zeros', 'preallocated metadata', 'raw data file']) {
      it(`is what qemu-img prints: ${name}`, () => {
        const image = recipe(name).make(at);
        expect(imgfs(['map', image]).stdout).to.equal(qemuImg('map', image));
      });
    }

    it('names the file of every layer', () => {
      const image = recipe('chain of three').make(at);
      const real = fs.realpathSync(at('.'));
      expect(imgfs(['map', image]).stdout).to.equal(qemuImg('map', image).replaceAll(at('.'), real));
    });

    it('tells of compressed ranges, where qemu-img gives up', () => {
      const image = recipe('compressed with zlib').make(at);
      const { code, stdout } = imgfs(['map', image]);
      expect(code).to.equal(0);
      expect(stdout).to.match(new RegExp(`^0x10000 +0x10000 +compressed +${image}$`, 'm'));
      expect(() => qemuImg('map', image)).to.throw(/compressed/);
    });
  });

  it('needs no key to tell where the bytes of an encrypted disk lie', () => {
    const { code, stdout } = imgfs(['map', '--json', recipe('AES').make(at)]);
    expect(code).to.equal(0);
    expect(JSON.parse(stdout)).to.be.an('array').that.is.not.empty;
  });

  it('fails for what it cannot read, with one line', () => {
    fs.writeFileSync(at('disk.vhdx'), Buffer.concat([Buffer.from('vhdxfile'), Buffer.alloc(8192)]));
    const { code, stderr } = imgfs(['map', at('disk.vhdx')]);
    expect(code).to.equal(1);
    expect(stderr).to.match(/^imgfs: [^\n]*vhdx[^\n]*\n$/);
  });
});
