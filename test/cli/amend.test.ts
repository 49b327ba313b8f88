import fs from 'node:fs';
import { expect } from 'chai';
import { run } from '../support/program.js';
import { needsTool, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

/** What is amended, one after the other, on copies of the same image. */
const SEQUENCES: Readonly<Record<string, readonly string[]>> = {
  'v3.qcow2': ['compat=0.10', 'compat=1.1', 'lazy_refcounts=on', 'compat=v2', 'compat=v3,refcount_bits=64'],
  'v2.qcow2': ['compat=1.1', 'refcount_bits=32,lazy_refcounts=on', 'refcount_bits=16,compat=0.10', 'size=40M'],
  'story.qcow2': ['refcount_bits=4', 'refcount_bits=8', 'refcount_bits=16', 'compat=0.10', 'compat=1.1'],
  'above.qcow2': ['compat=0.10', 'compat=1.1', 'backing_file=base.raw,backing_fmt=raw'],
  'small.qcow2': ['refcount_bits=1', 'refcount_bits=64', 'lazy_refcounts=on', 'lazy_refcounts=off', 'size=20M'],
  'data.qcow2': ['data_file_raw=off', 'data_file=other.raw'],
};

const REFUSED: readonly (readonly [image: string, options: string])[] = [
  ['v2.qcow2', 'refcount_bits=8'],
  ['v2.qcow2', 'lazy_refcounts=on'],
  ['v3.qcow2', 'compat=0.10,lazy_refcounts=on'],
  ['v3.qcow2', 'refcount_bits=3'],
  ['v3.qcow2', 'refcount_bits=128'],
  ['v3.qcow2', 'cluster_size=64k'],
  ['v3.qcow2', 'compat=2'],
  ['v3.qcow2', 'backing_file=base.raw,backing_fmt=raw'],
  ['v3.qcow2', 'data_file=data.raw'],
  ['v3.qcow2', 'data_file_raw=on'],
  ['v3.qcow2', 'foo=1'],
  ['story.qcow2', 'refcount_bits=1'],
  ['above.qcow2', 'backing_fmt=raw'],
  ['data.qcow2', 'compat=0.10'],
  ['parts.qcow2', 'compat=0.10'],
  ['wide.qcow2', 'compat=0.10'],
  ['base.raw', 'size=1M'],
];

describe('imgfs amend', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  before(() => {
    const make = (name: string, options: string, ...more: readonly string[]): void => {
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, ...more, at(name), '30M');
      qemuIo(at(name), ['write -P 1 100k 200k', 'write -P 2 5M 70k', 'write -P 3 31450000 100']);
      if (options.includes('0.10')) return;
      qemuIo(at(name), ['write -z 0 128k', 'write -z 9M 100k', 'write -P 4 10M 64k', 'write -z 10M 64k']);
    };
    fs.writeFileSync(at('base.raw'), Buffer.alloc(12 * 2 ** 20, 9));
    make('v3.qcow2', 'compat=1.1');
    make('v2.qcow2', 'compat=0.10');
    make('story.qcow2', 'refcount_bits=8');
    qemuImg('snapshot', '-c', 'one', at('story.qcow2'));
    qemuIo(at('story.qcow2'), ['write -P 5 1M 1M', 'write -z 5M 64k']);
    qemuImg('snapshot', '-c', 'two', at('story.qcow2'));
    qemuIo(at('story.qcow2'), ['write -P 6 1M 100k']);
    make('above.qcow2', 'compat=1.1', '-b', 'base.raw', '-F', 'raw');
    qemuImg('snapshot', '-c', 'one', at('above.qcow2'));
    make('small.qcow2', 'cluster_size=512');
    make('data.qcow2', `data_file=${at('data.raw')},data_file_raw=on`);
    make('parts.qcow2', 'extended_l2=on');
    make('zstd.qcow2', 'compression_type=zstd');
    make('wide.qcow2', 'refcount_bits=64');
  });

  const words = (image: string, options: string): readonly string[] => [
    'amend',
    '-f',
    image.split('.').at(-1) ?? '',
    '-o',
    options,
    at(image),
  ];

  /** What qemu-img tells of it, but for the room it takes and what differs between copies. */
  function told(name: string): unknown {
    const all = qemuImgJson('info', '--output=json', at(name)) as Readonly<Record<string, unknown>>;
    const differs = new Set(['actual-size', 'filename', 'children', 'full-backing-filename']);
    return Object.fromEntries(Object.entries(all).filter(([key]) => !differs.has(key)));
  }

  for (const [start, all] of Object.entries(SEQUENCES)) {
    it(`${start}: ${all.join('; ')}: as qemu-img`, () => {
      for (const name of ['ours.qcow2', 'theirs.qcow2']) fs.copyFileSync(at(start), at(name));
      for (const options of all) {
        const { code, stdout, stderr } = imgfs(words('ours.qcow2', options));
        expect({ code, stdout, stderr }, options).to.deep.equal({ code: 0, stdout: '', stderr: '' });
        qemuImg(...words('theirs.qcow2', options));
        expect(told('ours.qcow2'), options).to.deep.equal(told('theirs.qcow2'));
        expect(imgfs(['check', at('ours.qcow2')]).code, options).to.equal(0);
        // A name of a file that is not there.
        if (options.includes('other.raw')) continue;
        expect(run('qemu-img', ['check', at('ours.qcow2')]).code, options).to.equal(0);
        if (!options.includes('size')) qemuImg('compare', at('ours.qcow2'), at(start));
      }
      // QEMU 7.2 itself spoils snapshots that share clusters of zeros when it makes an image version 2.
      for (const { name } of snapshotsOf('ours.qcow2')) {
        const shown = ['ours.qcow2', start].map((file) => {
          qemuImg('convert', '-O', 'raw', '-l', name, at(file), at('shown.raw'));
          return fs.readFileSync(at('shown.raw'));
        });
        expect(shown[0]?.equals(shown[1] ?? Buffer.alloc(0)), name).to.equal(true);
      }
    });
  }

  function snapshotsOf(name: string): readonly { readonly name: string }[] {
    return (told(name) as { readonly snapshots?: readonly { readonly name: string }[] }).snapshots ?? [];
  }

  it('refused as qemu-img refuses, changing nothing', () => {
    for (const [image, options] of REFUSED) {
      const before = fs.readFileSync(at(image));
      const { code, stdout, stderr } = imgfs(words(image, options));
      expect({ code, stdout }, `${image} ${options}`).to.deep.equal({ code: 1, stdout: '' });
      expect(stderr.trimEnd().split('\n'), options).to.have.length(1);
      expect(fs.readFileSync(at(image)).equals(before), options).to.equal(true);
      fs.copyFileSync(at(image), at('refused'));
      expect(run('qemu-img', [...words(image, options).slice(0, -1), at('refused')]).code, options).to.equal(1);
    }
  });

  it('refuses to lose what QEMU loses: clusters compressed by zstd, bitmaps', () => {
    fs.copyFileSync(at('v3.qcow2'), at('bitmap.qcow2'));
    qemuImg('bitmap', '--add', at('bitmap.qcow2'), 'b');
    expect(imgfs(words('zstd.qcow2', 'compat=0.10')).stderr).to.contain('zstd');
    expect(imgfs(words('bitmap.qcow2', 'compat=0.10')).stderr).to.contain('bitmaps');
  });

  it('points to other verbs for what it does not do', () => {
    expect(imgfs(words('v3.qcow2', 'encrypt.state=active')).stderr).to.contain('imgfs key');
    expect(imgfs(words('v3.qcow2', 'backing_file=x,backing_fmt=raw')).stderr).to.contain('imgfs rebase');
    expect(imgfs(['amend', at('v3.qcow2')]).code).to.equal(1);
    expect(imgfs(['amend', '-f', 'qcow2', '-o', 'help']).stdout).to.contain('refcount_bits=N');
  });

  it('-p in a pipe: what qemu-img writes first and last', () => {
    fs.copyFileSync(at('v3.qcow2'), at('ours.qcow2'));
    expect(imgfs(['amend', '-p', '-o', 'compat=0.10', at('ours.qcow2')]).stdout).to.equal(
      '    (0.00/100%)\r    (100.00/100%)\r\n',
    );
  });
});
