import fs from 'node:fs';
import { expect } from 'chai';
import { dirtyRanges } from '../support/bitmaps.js';
import { run } from '../support/program.js';
import { needsTool, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

interface Info {
  readonly 'format-specific': { readonly data: { readonly bitmaps?: readonly { readonly name: string }[] } };
}

const REFUSED: readonly string[] = [
  '--bitmaps -O raw SOURCE TARGET',
  '--bitmaps -f raw -O qcow2 RAW TARGET',
  '--bitmaps -O qcow2 SOURCE SOURCE TARGET',
  '--bitmaps -O qcow2 -o compat=0.10 SOURCE TARGET',
  '--skip-broken-bitmaps -O qcow2 SOURCE TARGET',
  '--bitmaps -O qcow2 STALE TARGET',
];

describe('imgfs convert --bitmaps', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);
  const words = (line: string, target: string): readonly string[] => {
    const names: Readonly<Record<string, string>> = {
      SOURCE: at('source.qcow2'),
      RAW: at('a.raw'),
      STALE: at('stale.qcow2'),
      TARGET: at(target),
    };
    return line.split(' ').map((word) => names[word] ?? word);
  };

  before(() => {
    fs.writeFileSync(at('a.raw'), Buffer.alloc(2 ** 20, 1));
    qemuImg('create', '-q', '-f', 'qcow2', at('source.qcow2'), '20M');
    qemuImg('bitmap', '--add', at('source.qcow2'), 'auto');
    qemuImg('bitmap', '--add', '-g', '4k', at('source.qcow2'), 'fine');
    qemuIo(at('source.qcow2'), ['write 100k 20k', 'write 5M 3M']);
    qemuImg('bitmap', '--disable', at('source.qcow2'), 'fine');
    qemuImg('bitmap', '--add', '--disable', at('source.qcow2'), 'empty');
    fs.copyFileSync(at('source.qcow2'), at('stale.qcow2'));
    // A change by imgfs leaves bitmaps that say so.
    expect(imgfs(['snapshot', '-c', 's', at('stale.qcow2')]).code).to.equal(0);
    qemuImg('bitmap', '--add', at('stale.qcow2'), 'new');
  });

  function shown(name: string): unknown {
    const { data } = (qemuImgJson('info', '--output=json', at(name)) as Info)['format-specific'];
    const all = [...(data.bitmaps ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1));
    return all.map((bitmap) => ({ ...bitmap, ranges: dirtyRanges(at(name), bitmap.name) }));
  }

  for (const line of [
    '--bitmaps -O qcow2 SOURCE TARGET',
    '--bitmaps -O qcow2 -o cluster_size=512 SOURCE TARGET',
    '--bitmaps -c -O qcow2 SOURCE TARGET',
    '--bitmaps --skip-broken-bitmaps -O qcow2 STALE TARGET',
  ]) {
    it(`${line}: as qemu-img`, () => {
      expect(imgfs(['convert', '-q', ...words(line, 'ours')]).code).to.equal(0);
      qemuImg('convert', ...words(line, 'theirs'));
      expect(shown('ours')).to.deep.equal(shown('theirs'));
      qemuImg('compare', at('ours'), at('theirs'));
      expect(run('qemu-img', ['check', at('ours')]).code).to.equal(0);
    });
  }

  it('refused as qemu-img refuses, and nothing is made', () => {
    for (const line of REFUSED) {
      const { code, stderr } = imgfs(['convert', '-q', ...words(line, 'no')]);
      expect({ code, made: fs.existsSync(at('no')) }, line).to.deep.equal({ code: 1, made: false });
      expect(stderr.trimEnd().split('\n'), line).to.have.length(1);
      expect(run('qemu-img', ['convert', ...words(line, 'theirs')]).code, line).to.equal(1);
    }
    expect(imgfs(['convert', '-n', '--bitmaps', '-O', 'qcow2', at('source.qcow2'), at('ours')]).code).to.equal(1);
  });
});
