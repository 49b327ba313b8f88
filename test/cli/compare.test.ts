import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { compareDisks } from '../../src/convert/compare.js';
import { comparisonText } from '../../src/convert/compare-text.js';
import { formats } from '../../src/formats/index.js';
import { openImage } from '../../src/image/open.js';
import { drained } from '../../src/lib/steps.js';
import type { Run } from '../support/imgfs.js';
import { needsTool, qemuImg, qemuImgJson, qemuIo, settle } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs, imgfsJson } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

const MIB = 2 ** 20;

function qemuCompare(...args: readonly string[]): Run {
  const { status, stdout, stderr } = spawnSync('qemu-img', ['compare', ...args], { encoding: 'utf8' });
  return { code: status, stdout, stderr };
}

/** Small disks that differ in what they hold, in where it lies, in how long they are and in their formats. */
const DISKS: Readonly<Record<string, (file: string) => void>> = {
  'a.raw': (file) => raw(file, 4 * MIB, [65_536, 200_000, 1], [3 * MIB, 65_536, 2]),
  'tail.raw': (file) => raw(file, 6 * MIB, [65_536, 200_000, 1], [3 * MIB, 65_536, 2]),
  'more.raw': (file) => raw(file, 6 * MIB, [65_536, 200_000, 1], [3 * MIB, 65_536, 2], [5 * MIB, 10, 3]),
  'other.raw': (file) => raw(file, 4 * MIB, [65_536, 200_000, 1], [3 * MIB + 5000, 60_536, 2]),
  'full.raw': (file) => raw(file, 4 * MIB, [0, 4 * MIB, 0], [65_536, 200_000, 1], [3 * MIB, 65_536, 2]),
  'odd.raw': (file) => raw(file, 1000, [0, 1000, 1]),
  'sector.raw': (file) => raw(file, 1024, [0, 1000, 1]),
  'beyond.raw': (file) => raw(file, 1536, [0, 1010, 1]),
  'a.qcow2': (file) => qcow2(file, [], ['write -P 1 64k 200000', 'write -P 2 3M 64k']),
  'zeros.qcow2': (file) => qcow2(file, [], ['write -z 0 4M', 'write -P 1 64k 200000', 'write -P 2 3M 64k']),
  'small.qcow2': (file) => qcow2(file, ['-o', 'cluster_size=4k'], ['write -P 1 64k 200000', 'write -P 2 3M 64k']),
  'late.qcow2': (file) => qcow2(file, [], ['write -P 1 64k 200000', 'write -P 2 3M 64k', 'write -P 9 4194000 300']),
  'above.qcow2': (file) => {
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'a.raw', '-F', 'raw', file, '5M');
    qemuIo(file, ['write -P 1 100k 10k', 'write -z 1M 64k']);
  },
  'packed.qcow2': (file) => qemuImg('convert', '-c', '-O', 'qcow2', path.join(path.dirname(file), 'a.raw'), file),
  'a.vmdk': (file) => qemuImg('convert', '-O', 'vmdk', path.join(path.dirname(file), 'a.raw'), file),
  'a.vdi': (file) => qemuImg('convert', '-O', 'vdi', path.join(path.dirname(file), 'a.raw'), file),
};

function raw(file: string, size: number, ...writes: readonly (readonly [number, number, number])[]): void {
  const fd = fs.openSync(file, 'w');
  fs.ftruncateSync(fd, size);
  for (const [at, length, byte] of writes) fs.writeSync(fd, Buffer.alloc(length, byte), 0, length, at);
  fs.closeSync(fd);
}

function qcow2(file: string, options: readonly string[], commands: readonly string[]): void {
  qemuImg('create', '-q', '-f', 'qcow2', ...options, file, '4M');
  qemuIo(file, commands);
}

describe('imgfs compare', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  before(() => {
    for (const [name, make] of Object.entries(DISKS)) make(at(name));
    settle(at('a.raw'));
  });

  const formatOf = (name: string): string => name.split('.').at(-1) ?? '';

  /** The verb's work in this process: a few hundred starts of node would take long. */
  function compare(one: string, other: string, strict: boolean): string {
    const options = { formats, references: { follow: true, allowed: [] }, forceShare: false, warn: () => {} };
    const { image: first } = openImage(at(one), { ...options, format: formatOf(one) });
    const { image: second } = openImage(at(other), { ...options, format: formatOf(other) });
    try {
      const difference = drained(compareDisks(first, second, { strict }));
      return comparisonText({ first, second, difference });
    } finally {
      first.close();
      second.close();
    }
  }

  /** Where extents of an odd disk end inside a sector, qemu-img counts sectors from there. */
  const inSectors = (text: string): string =>
    text.replace(/\d+/, (offset) => String(Number(offset) - (Number(offset) % 512)));

  for (const one of Object.keys(DISKS)) {
    it(`${one} with each of the others, as qemu-img finds it`, () => {
      for (const other of Object.keys(DISKS)) {
        const args = ['-f', formatOf(one), '-F', formatOf(other), at(one), at(other)];
        expect(compare(one, other, false), other).to.equal(inSectors(qemuCompare(...args).stdout));
      }
    });
  }

  /** What the map of a disk says, without places. */
  function kinds(name: string): unknown {
    const map = qemuImgJson('map', '--output=json', '-f', formatOf(name), at(name)) as { offset?: number }[];
    return map.map(({ offset, ...rest }) => ({ ...rest, depth: 0, placed: offset !== undefined }));
  }

  it('strictly: the same verdict, but that the last hole may be told in one piece or in several', () => {
    for (const one of Object.keys(DISKS)) {
      for (const other of ['a.raw', 'full.raw', 'odd.raw', 'a.qcow2', 'late.qcow2', 'packed.qcow2', 'a.vdi']) {
        const args = ['-s', '-f', formatOf(one), '-F', formatOf(other), at(one), at(other)];
        const [ours, theirs] = [compare(one, other, true), qemuCompare(...args).stdout];
        if (ours.startsWith('Strict mode') || !theirs.startsWith('Strict mode')) {
          expect(ours.startsWith('Strict mode'), `${one} ${other}`).to.equal(theirs.startsWith('Strict mode'));
        } else expect(kinds(one), `${one} ${other}: ${theirs}`).to.deep.equal(kinds(other));
      }
    }
  });

  it('lines and exit codes of the verb', () => {
    const lines = [
      ['a.raw', 'a.qcow2'],
      ['-p', 'a.raw', 'tail.raw'],
      ['-s', 'a.raw', 'tail.raw'],
      ['a.raw', 'more.raw'],
      ['-q', 'a.raw', 'other.raw'],
      ['-f', 'raw', '-F', 'qcow2', 'a.raw', 'a.vdi'],
      ['-f', 'wat', 'a.raw', 'a.raw'],
      ['a.raw', 'nobody'],
      ['a.raw'],
      ['--wat', 'a.raw', 'a.raw'],
      ['-U', 'a.raw', 'a.vmdk'],
    ];
    for (const line of lines) {
      const args = line.map((word) => (fs.existsSync(at(word)) ? at(word) : word));
      const [ours, theirs] = [imgfs(['compare', ...args]), qemuCompare(...args)];
      const percents = / *\([\d.]+\/100%\)\r/g;
      expect({ code: ours.code, stdout: ours.stdout.replace(percents, '') }, line.join(' ')).to.deep.equal({
        code: theirs.code,
        stdout: theirs.stdout.replace(percents, ''),
      });
      expect(ours.stderr).to.match(theirs.stderr === '' ? /^$/ : /^imgfs: [^\n]*\n$/);
    }
  });

  it('exit code 4 where a disk cannot be read, 2 where one is in use', async () => {
    fs.copyFileSync(at('packed.qcow2'), at('broken.qcow2'));
    const { size } = fs.statSync(at('broken.qcow2'));
    const fd = fs.openSync(at('broken.qcow2'), 'r+');
    // The compressed clusters come last.
    fs.writeSync(fd, Buffer.alloc(1024, 0xff), 0, 1024, size - 1024);
    fs.closeSync(fd);
    expect(qemuCompare(at('broken.qcow2'), at('a.raw')).code).to.equal(4);
    const failed = imgfs(['compare', at('broken.qcow2'), at('a.raw')]);
    expect(failed).to.include({ code: 4, stdout: '' });
    expect(failed.stderr).to.match(/^imgfs: [^\n]*\n$/);

    const session = await QemuSession.open('-f', 'qcow2', at('a.qcow2'));
    try {
      expect(qemuCompare(at('a.raw'), at('a.qcow2')).code).to.equal(2);
      expect(imgfs(['compare', at('a.raw'), at('a.qcow2')])).to.include({ code: 2, stdout: '' });
      expect(imgfs(['compare', '-U', at('a.raw'), at('a.qcow2')]).code).to.equal(0);
    } finally {
      await session.close();
    }
  });

  it('--json', () => {
    expect(imgfsJson(['compare', '--json', at('odd.raw'), at('sector.raw')])).to.deep.equal({
      schema: 'imgfs.comparison/1',
      identical: true,
      'virtual-sizes': [1000, 1024],
    });
    const { code, stdout } = imgfs(['compare', '--output=json', at('a.raw'), at('other.raw')]);
    expect({ code, told: JSON.parse(stdout) as unknown }).to.deep.equal({
      code: 1,
      told: {
        schema: 'imgfs.comparison/1',
        identical: false,
        'virtual-sizes': [4 * MIB, 4 * MIB],
        difference: { kind: 'content', offset: 3 * MIB },
      },
    });
  });

  it('sparse disks of 5 TiB at once', () => {
    qemuImg('create', '-q', '-f', 'raw', at('huge.raw'), '5T');
    qemuImg('create', '-q', '-f', 'qcow2', at('huge.qcow2'), '5T');
    qemuImg('create', '-q', '-f', 'vdi', at('huge.vdi'), '5T');
    const start = performance.now();
    expect(compare('huge.raw', 'huge.qcow2', false)).to.equal('Images are identical.\n');
    expect(compare('huge.qcow2', 'huge.vdi', false)).to.equal('Images are identical.\n');
    expect(performance.now() - start).to.be.below(10_000);
  });
});
