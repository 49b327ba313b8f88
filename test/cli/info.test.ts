import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { MAIN } from '../support/imgfs.js';
import { needsTool, qemuImg, qemuImgJson } from '../support/qemu.js';
import { imgfs, imgfsJson } from '../support/resident.js';
import { scratch } from '../support/scratch.js';
import { RECIPES } from './images.js';

type Document = { readonly [key: string]: unknown };

/** A description without the keys that are ours. */
function qemuKeys({ schema, 'exact-size': _, ...rest }: Document): Document {
  expect(schema).to.equal('imgfs.info/1');
  return rest;
}

describe('imgfs info', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  afterEach(() => {
    for (const name of fs.readdirSync(at('.'))) fs.rmSync(at(name), { recursive: true });
  });

  describe('--json has what qemu-img has', () => {
    for (const { name, make } of RECIPES) {
      it(name, () => {
        const image = make(at);
        const ours = imgfsJson(['info', '--json', image]) as Document;
        expect(qemuKeys(ours)).to.deep.equal(qemuImgJson('info', '--output=json', image));
        const chain = imgfsJson(['info', '--output=json', '--backing-chain', image]) as Document[];
        expect(chain.map(qemuKeys)).to.deep.equal(qemuImgJson('info', '--output=json', '--backing-chain', image));
      });
    }

    for (const size of [0, 1, 511, 512, 513, 1000, 65_537]) {
      it(`a raw file of ${size} bytes: whole sectors, and the exact size beside them`, () => {
        fs.writeFileSync(at('odd.raw'), Buffer.alloc(size));
        const ours = imgfsJson(['info', '--json', at('odd.raw')]) as Document;
        expect(ours['exact-size']).to.equal(size);
        expect(qemuKeys(ours)).to.deep.equal(qemuImgJson('info', '-f', 'raw', '--output=json', at('odd.raw')));
      });
    }

    it('a qcow2 that states no whole sectors', () => {
      qemuImg('create', '-q', '-f', 'qcow2', at('odd.qcow2'), '1M');
      patch(at('odd.qcow2'), 30, Buffer.from([0x01, 0x10]));
      const ours = imgfsJson(['info', '--json', at('odd.qcow2')]) as Document;
      expect(ours['exact-size']).to.equal(1024 * 1024 + 0x110);
      expect(qemuKeys(ours)).to.deep.equal(qemuImgJson('info', '--output=json', at('odd.qcow2')));
    });

    it('names as given: relative, with a directory, through a link', () => {
      fs.mkdirSync(at('sub'));
      fs.symlinkSync('sub', at('link'));
      qemuImg('create', '-q', '-f', 'qcow2', at('sub/base.qcow2'), '1M');
      qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', at('sub/top.qcow2'));
      for (const name of ['sub/top.qcow2', './sub/top.qcow2', 'link/top.qcow2', at('sub/../sub/top.qcow2')]) {
        const ours = imgfsJson(['info', '--json', '--backing-chain', name], { cwd: at('.') }) as Document[];
        const here = spawnSync('qemu-img', ['info', '--output=json', '--backing-chain', name], { cwd: at('.') });
        expect(ours.map(qemuKeys), name).to.deep.equal(JSON.parse(here.stdout.toString()));
      }
    });

    it('a backing image that nobody may open, by a name with a protocol', () => {
      for (const backing of ['nbd://nowhere/x', '/nonexistent/base.raw', 'gone.raw']) {
        qemuImg('create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', 'raw', at('top.qcow2'), '1M');
        const ours = imgfsJson(['info', '--json', at('top.qcow2')]) as Document;
        expect(qemuKeys(ours)).to.deep.equal(qemuImgJson('info', '--output=json', at('top.qcow2')));
      }
    });
  });

  it('prints the lines qemu-img prints, in its order up to the format-specific ones', () => {
    for (const name of ['raw, sparse', 'version 2', 'snapshots', 'bitmaps', 'shorter backing image', 'dirty', 'LUKS']) {
      const image = RECIPES.find((recipe) => recipe.name === name)?.make(at) ?? '';
      const [ours, ourSpecific] = parts(imgfs(['info', image]).stdout);
      const [theirs, theirSpecific] = parts(qemuImg('info', image));
      expect(ours, name).to.equal(theirs);
      expect(ourSpecific?.sort(), name).to.deep.equal(theirSpecific?.sort());
      fs.rmSync(image);
    }
  });

  it('tells a chain as text, an image a paragraph', () => {
    const image = RECIPES.find((recipe) => recipe.name === 'chain of three')?.make(at) ?? '';
    const { stdout } = imgfs(['info', '--backing-chain', image]);
    expect(stdout.split('\n\n').map((paragraph) => paragraph.split('\n')[0])).to.deep.equal(
      ['disk.qcow2', 'base.qcow2', 'root.raw'].map((name) => `image: ${at(name)}`),
    );
  });

  it('tells an odd size exactly in text too', () => {
    fs.writeFileSync(at('odd.raw'), Buffer.alloc(1000));
    expect(imgfs(['info', at('odd.raw')]).stdout).to.include('1024 bytes)\nexact size: 1000 bytes\n');
  });

  describe('snapshot names chosen by an enemy', () => {
    const names = ['\x1b[2J\x07bell', 'two\nlines', 'C1 \u009b31m', 'rtl \u202eexe', '../../etc/passwd'];

    it('never reach a terminal raw', () => {
      qemuImg('create', '-q', '-f', 'qcow2', at('s.qcow2'), '1M');
      for (const name of names) qemuImg('snapshot', '-c', name, at('s.qcow2'));
      const text = imgfs(['info', at('s.qcow2')]);
      const json = imgfs(['info', '--json', at('s.qcow2')]);
      expect(text.stdout).to.match(/^[\n\x20-\x7e]*$/);
      expect(text.stdout).to.include('two\\x0alines');
      expect(json.stdout).to.match(/^[\n\x20-\x7e]*$/);
      const { snapshots } = JSON.parse(json.stdout) as { snapshots: readonly { readonly name: string }[] };
      expect(snapshots.map((snapshot) => snapshot.name)).to.deep.equal(names);
    });

    it('keep their bytes where JSON cannot carry them, and only there', () => {
      qemuImg('create', '-q', '-f', 'qcow2', at('s.qcow2'), '1M');
      qemuImg('snapshot', '-c', 'AAAA', at('s.qcow2'));
      qemuImg('snapshot', '-c', 'fine \u00fc', at('s.qcow2'));
      const image = fs.readFileSync(at('s.qcow2'));
      const name = Buffer.from([0xff, 0xfe, 0x2f, 0x41]);
      name.copy(image, image.indexOf('AAAA'));
      fs.writeFileSync(at('s.qcow2'), image);
      const { snapshots } = imgfsJson(['info', '--json', at('s.qcow2')]) as { snapshots: readonly Document[] };
      expect(snapshots[0]).to.include({ name: '\ufffd\ufffd/A', 'name-bytes': 'fffe2f41' });
      expect(snapshots[1]).to.include({ name: 'fine \u00fc' }).and.not.have.property('name-bytes');
    });
  });

  describe('what it opens', () => {
    before(function () {
      if (spawnSync('strace', ['-V']).error === undefined) return;
      console.log('skipped: strace is not installed');
      this.skip();
    });

    /** Files beneath the scratch directory that the program opened, in order. */
    function opened(...args: readonly string[]): readonly string[] {
      const log = path.join(fs.mkdtempSync(at('strace-')), 'log');
      const calls = 'trace=open,openat,openat2';
      const run = spawnSync('strace', ['-f', '-o', log, '-e', calls, process.execPath, MAIN, ...args]);
      expect(run.status, run.stderr.toString()).to.equal(0);
      const names = [...fs.readFileSync(log, 'utf8').matchAll(/"([^"]*)"/g)].map((match) => match[1] ?? '');
      return names.filter((name) => name.startsWith(at('.')) || /(base|root|data)\.\w+$/.test(name));
    }

    for (const name of ['qcow2', 'chain of three', 'data file', 'raw data file', 'snapshots']) {
      it(`exactly one file: ${name}`, () => {
        const image = RECIPES.find((recipe) => recipe.name === name)?.make(at) ?? '';
        expect(opened('info', '--json', image)).to.deep.equal([image]);
      });
    }

    it('the chain where it is asked for, through the gate', () => {
      const image = RECIPES.find((recipe) => recipe.name === 'chain of three')?.make(at) ?? '';
      const names = opened('info', '--backing-chain', image).map((name) => path.basename(name));
      expect(names).to.include.members(['disk.qcow2', 'base.qcow2', 'root.raw']);
      const refused = imgfs(['info', '--backing-chain', '--no-refs', image]);
      expect(refused).to.include({ code: 1, stdout: '' });
      expect(refused.stderr).to.match(/^imgfs: backing file "base.qcow2" of .* is refused: [^\n]*\n$/);
    });
  });

  it('reads on while another writes, with one line that names the writer', async () => {
    const image = RECIPES.find((recipe) => recipe.name === 'qcow2')?.make(at) ?? '';
    const writer = spawn('qemu-io', ['-f', 'qcow2', image], { stdio: ['pipe', 'pipe', 'ignore'] });
    try {
      await new Promise((resolve) => writer.stdout.once('data', resolve));
      for (const verb of ['info', 'map']) {
        const warned = imgfs([verb, '--json', image]);
        expect(warned.code).to.equal(0);
        expect(warned.stderr).to.match(new RegExp(`^imgfs: warning: .*qemu-io \\(pid ${writer.pid}\\)[^\\n]*\\n$`));
        JSON.parse(warned.stdout);
        expect(imgfs([verb, '-U', image])).to.include({ code: 0, stderr: '' });
      }
    } finally {
      writer.stdin.end('quit\n');
      await new Promise((resolve) => writer.once('exit', resolve));
    }
  });
});

/** What comes before the format-specific lines, and those. */
function parts(text: string): readonly [string, string[] | undefined] {
  const [head = '', tail] = text.split('Format specific information:\n');
  return [head.replace(/ +$/gm, ''), tail?.trimEnd().split('\n')];
}

function patch(file: string, offset: number, bytes: Buffer): void {
  const fd = fs.openSync(file, 'r+');
  fs.writeSync(fd, bytes, 0, bytes.length, offset);
  fs.closeSync(fd);
}
