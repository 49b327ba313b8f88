import fs from 'node:fs';
import { expect } from 'chai';
import { dirtyRanges } from '../support/bitmaps.js';
import { run } from '../support/program.js';
import { needsTool, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs, imgfsJson } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

interface Info {
  readonly 'format-specific': { readonly data: { readonly bitmaps?: readonly { readonly name: string }[] } };
}

/** Command lines after each other, on the same image: what both programs must make of them is the same. */
const SEQUENCES: Readonly<Record<string, readonly string[]>> = {
  'add, with every letter': [
    '--add IMAGE one',
    '--add -g 512 IMAGE two',
    '--add --disable -g 1M IMAGE three',
    '--add -g 0 IMAGE four',
    '--add --disable --enable IMAGE five',
    '--add -g 2G IMAGE six',
  ],
  'enable, disable, remove': [
    '--disable IMAGE auto',
    '--enable IMAGE off',
    '--remove IMAGE auto',
    '--remove IMAGE off',
  ],
  'merge finer and coarser': [
    '--add -g 512 IMAGE fine',
    '--merge auto IMAGE fine',
    '--add -g 1M IMAGE coarse',
    '--merge auto --merge fine IMAGE coarse',
    '--merge coarse IMAGE fine',
    '--clear IMAGE auto',
    '--merge fine IMAGE auto',
    '--merge auto IMAGE auto',
  ],
  'clear and merge in one line': ['--clear --merge auto IMAGE off', '--merge off --clear IMAGE off'],
  'merge from another image': ['-b OTHER -F qcow2 --merge auto IMAGE off', '-b OTHER --merge auto IMAGE auto'],
  'all gone and back': [
    '--remove IMAGE auto',
    '--remove IMAGE off',
    '--add IMAGE anew',
    '-b OTHER --merge auto IMAGE anew',
  ],
};

const REFUSED: readonly string[] = [
  '--add IMAGE auto',
  '--remove IMAGE nobody',
  '--merge nobody IMAGE auto',
  '--clear IMAGE nobody',
  '--add -g 100 IMAGE new',
  '--add -g 256 IMAGE new',
  '--add -g 4G IMAGE new',
  '--add -g many IMAGE new',
  '-g 64k --remove IMAGE auto',
  '-b OTHER --add IMAGE new',
  '-F qcow2 --merge auto IMAGE off',
  '-b OTHER --merge nobody IMAGE off',
  'IMAGE auto',
  '--add IMAGE',
  '--add -f raw IMAGE new',
  '--add OLD new',
  `--add IMAGE ${'x'.repeat(1024)}`,
  '--wat IMAGE auto',
];

describe('imgfs bitmap', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);
  const files = (image: string): Readonly<Record<string, string>> => ({
    IMAGE: at(image),
    OTHER: at('other.qcow2'),
    OLD: at('old.qcow2'),
  });
  const words = (line: string, image: string): readonly string[] =>
    line.split(' ').map((word) => files(image)[word] ?? word);

  before(() => {
    const make = (name: string, options: string, size = '30M'): void => {
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, at(name), size);
      if (name === 'old.qcow2') return;
      qemuImg('bitmap', '--add', at(name), 'auto');
      qemuImg('bitmap', '--add', '--disable', '-g', '4k', at(name), 'off');
    };
    make('start.qcow2', 'cluster_size=64k');
    make('small.qcow2', 'cluster_size=512');
    make('other.qcow2', 'cluster_size=4k');
    make('old.qcow2', 'compat=0.10');
    fs.writeFileSync(at('base.raw'), Buffer.alloc(1));
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', at('backed.qcow2'), '30M');
    qemuImg('bitmap', '--add', at('backed.qcow2'), 'auto');
    qemuImg('bitmap', '--add', '--disable', at('backed.qcow2'), 'off');
    for (const name of ['start.qcow2', 'small.qcow2', 'backed.qcow2']) {
      qemuIo(at(name), ['write 100k 20k', 'write 5M 3M', 'write 31457000 280', 'write 20M 1']);
    }
    qemuIo(at('other.qcow2'), ['write 0 1', 'write 7M 64k', 'write 12345678 4k']);
  });

  /** The bitmaps as qemu-img lists them. */
  function shown(image: string): readonly { readonly name: string }[] {
    const { data } = (qemuImgJson('info', '--output=json', image) as Info)['format-specific'];
    return data.bitmaps ?? [];
  }

  for (const [n, [what, lines]] of Object.entries(SEQUENCES).entries()) {
    for (const start of ['start.qcow2', n % 2 === 0 ? 'small.qcow2' : 'backed.qcow2']) {
      it(`${what}: as qemu-img (${start})`, () => {
        for (const name of ['ours', 'theirs']) fs.copyFileSync(at(start), at(name));
        for (const line of lines) {
          const { code, stdout, stderr } = imgfs(['bitmap', ...words(line, 'ours')]);
          expect({ code, stdout, stderr }, line).to.deep.equal({ code: 0, stdout: '', stderr: '' });
          qemuImg('bitmap', ...words(line, 'theirs'));
          expect(shown(at('ours')), line).to.deep.equal(shown(at('theirs')));
          expect(run('qemu-img', ['check', at('ours')]).code, line).to.equal(0);
        }
        expect(bitsOf('ours'), what).to.deep.equal(bitsOf('theirs'));
        qemuImg('compare', at('ours'), at(start));
      });
    }
  }

  /** What each bitmap of an image says; the same after QEMU has read them all and stored them again. */
  function bitsOf(image: string): unknown {
    const read = (): unknown => shown(at(image)).map(({ name }) => [name, dirtyRanges(at(image), name)]);
    const found = read();
    qemuImg('bitmap', '--add', at(image), 'extra');
    qemuImg('bitmap', '--remove', at(image), 'extra');
    expect(read()).to.deep.equal(found);
    return found;
  }

  it('--list, as text and as JSON with the keys of qemu-img info', () => {
    const { stdout } = imgfs(['bitmap', '--list', at('start.qcow2')]);
    expect(stdout).to.equal('granularity  flags  name\n65536        auto   auto\n4096         -      off\n');
    expect(imgfsJson(['bitmap', '--list', '--json', at('start.qcow2')])).to.deep.equal({
      schema: 'imgfs.bitmaps/1',
      filename: at('start.qcow2'),
      bitmaps: shown(at('start.qcow2')),
    });
  });

  it('refused as qemu-img refuses, changing nothing', () => {
    fs.copyFileSync(at('start.qcow2'), at('refused'));
    const before = fs.readFileSync(at('refused'));
    for (const line of REFUSED) {
      const { code, stdout, stderr } = imgfs(['bitmap', ...words(line, 'refused')]);
      expect({ code, stdout }, line).to.deep.equal({ code: 1, stdout: '' });
      expect(stderr.trimEnd().split('\n'), line).to.have.length(1);
      expect(fs.readFileSync(at('refused')).equals(before), line).to.equal(true);
    }
    for (const line of REFUSED) {
      fs.copyFileSync(at('start.qcow2'), at('refused'));
      expect(run('qemu-img', ['bitmap', ...words(line, 'refused')]).code, line).to.equal(1);
    }
  });

  it('of several actions all or none', () => {
    fs.copyFileSync(at('start.qcow2'), at('none'));
    const before = fs.readFileSync(at('none'));
    expect(imgfs(['bitmap', '--clear', '--merge', 'nobody', at('none'), 'auto']).code).to.equal(1);
    expect(fs.readFileSync(at('none')).equals(before)).to.equal(true);
  });

  it('one that cannot be trusted can only be removed', () => {
    fs.copyFileSync(at('start.qcow2'), at('stale'));
    const image = imgfs(['resize', at('stale'), '+1M']);
    expect(image.code).to.equal(0);
    expect(JSON.stringify(shown(at('stale')))).to.contain('in-use');
    for (const line of ['--clear IMAGE auto', '--enable IMAGE off', '--merge off IMAGE auto']) {
      expect(imgfs(['bitmap', ...words(line, 'stale')]).stderr, line).to.contain('only be removed');
    }
    expect(imgfs(['bitmap', '--remove', at('stale'), 'auto']).code).to.equal(0);
    expect(imgfs(['bitmap', '--add', at('stale'), 'auto']).code).to.equal(0);
    expect(run('qemu-img', ['check', at('stale')]).code).to.equal(0);
  });

  it('an image that is in use is refused', async () => {
    const session = await QemuSession.open('-f', 'qcow2', at('start.qcow2'));
    try {
      expect(imgfs(['bitmap', '--add', at('start.qcow2'), 'new'])).to.include({ code: 1 });
    } finally {
      await session.close();
    }
  });
});
