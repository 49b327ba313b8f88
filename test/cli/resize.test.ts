import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { imgfs, type Run } from '../support/imgfs.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { scratch } from '../support/scratch.js';

const MIB = 2 ** 20;
const REFUSED = 1;

function qemuResize(...args: readonly string[]): Run {
  const { status, stdout, stderr } = spawnSync('qemu-img', ['resize', ...args], { encoding: 'utf8' });
  return { code: status, stdout, stderr };
}

/** The size that qemu-img sees. */
function sizeOf(file: string, format: string): unknown {
  return (qemuImgJson('info', '--output=json', '-f', format, file) as Record<string, unknown>)['virtual-size'];
}

describe('imgfs resize', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  afterEach(() => {
    for (const name of fs.readdirSync(at('.'))) fs.rmSync(at(name), { recursive: true });
  });

  function make(format: string, options: readonly string[] = [], size = '4M'): string {
    const file = at(`disk.${format}`);
    qemuImg('create', '-q', '-f', format, ...options, file, size);
    qemuIo(file, ['write -P 1 0 64k', 'write -P 2 3M 1M'], ['-f', format]);
    return file;
  }

  /** Does the same with both, and expects the same of both. */
  function expectSame(format: string, args: readonly string[], size: string): void {
    const [ours, theirs] = [make(format), at('theirs')];
    fs.copyFileSync(ours, theirs);
    const expected = qemuResize('-f', format, ...args, theirs, size);
    const got = imgfs(['resize', '-f', format, ...args, ours, size]);
    expect({ code: got.code, stdout: got.stdout }, `${size}: ${got.stderr}`).to.deep.equal({
      code: expected.code,
      stdout: expected.stdout,
    });
    if (got.code !== 0) expect(got.stderr).to.match(/^imgfs: [^\n]*\n$/);
    expect(sizeOf(ours, format)).to.equal(sizeOf(theirs, format));
    if (format === 'raw') expect(fs.statSync(ours).size).to.equal(fs.statSync(theirs).size);
    expect(qemuBytes(ours, '-f', format).equals(qemuBytes(theirs, '-f', format)), size).to.equal(true);
    if (format === 'qcow2') qemuImg('check', '-q', ours);
  }

  for (const format of ['raw', 'qcow2']) {
    describe(`${format}, beside qemu-img`, () => {
      for (const size of ['8M', '+1.5M', '+0', '4194304', '0x600000', '+512', '9000k', '+100M']) {
        it(`${size}`, () => expectSame(format, [], size));
      }
      for (const size of ['1M', '-1M', '-512', '512', '-3584k']) {
        it(`${size} with --shrink`, () => expectSame(format, ['--shrink'], size));
      }
      for (const size of ['1M', '-1', '0', '-9M', '5x', '', '+', '+-5M', '-']) {
        it(`not ${JSON.stringify(size)}`, () => expectSame(format, [], size));
      }
      it('-q', () => expectSame(format, ['-q'], '8M'));
    });
  }

  it('raw disks of any length, exactly; qcow2 in whole sectors only', () => {
    for (const size of ['+1000', '5000001', '4M']) expectSame('raw', ['--shrink'], size);
    for (const size of ['+1000', '5000001']) expectSame('qcow2', ['--shrink'], size);
    fs.writeFileSync(at('odd.raw'), Buffer.alloc(1000, 1));
    // qemu-img counts from the whole sector: 1025.
    expect(imgfs(['resize', at('odd.raw'), '+1']).code).to.equal(0);
    expect(fs.statSync(at('odd.raw')).size).to.equal(1001);
  });

  it('takes the size with a minus sign among options before it, and help all the same', () => {
    const image = make('qcow2');
    expect(imgfs(['resize', '--shrink', image, '-f', 'qcow2', '-1M']).code).to.equal(0);
    expect(imgfs(['resize', '--shrink', '--', image, '-1M']).code).to.equal(0);
    expect(sizeOf(image, 'qcow2')).to.equal(2 * MIB);
    expect(imgfs(['resize', '--help']).code).to.equal(0);
  });

  it('what is added reads as zeros, over a longer backing file too', () => {
    make('raw');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'disk.raw', '-F', 'raw', at('top.qcow2'), '1M');
    expect(imgfs(['resize', at('top.qcow2'), '6M'])).to.include({ code: 0, stderr: '' });
    const bytes = qemuBytes(at('top.qcow2'));
    expect(bytes.subarray(0, 65_536)).to.deep.equal(Buffer.alloc(65_536, 1));
    expect(bytes.subarray(65_536).equals(Buffer.alloc(6 * MIB - 65_536))).to.equal(true);
    expect(imgfs(['resize', '--no-refs', at('top.qcow2'), '7M']).code).to.equal(REFUSED);
  });

  it('keeps snapshots as they are, at their size; not in version 2, which cannot', () => {
    const image = make('qcow2');
    qemuImg('snapshot', '-c', 'before', image);
    const before = qemuBytes(image, '-l', 'before');
    expect(imgfs(['resize', '--shrink', image, '1M']).code).to.equal(0);
    qemuImg('check', '-q', image);
    qemuImg('snapshot', '-a', 'before', image);
    expect(qemuBytes(image).equals(before)).to.equal(true);
    fs.rmSync(image);

    const old = make('qcow2', ['-o', 'compat=0.10']);
    qemuImg('snapshot', '-c', 'before', old);
    const bytes = fs.readFileSync(old);
    expect(qemuResize(old, '8M').code).to.equal(REFUSED);
    expect(imgfs(['resize', old, '8M'])).to.include({ code: REFUSED, stdout: '' });
    expect(fs.readFileSync(old).equals(bytes)).to.equal(true);
  });

  it('gives back the space of what it deletes', () => {
    const image = make('qcow2');
    const before = fs.statSync(image).blocks;
    expect(imgfs(['resize', '--shrink', image, '64k']).code).to.equal(0);
    expect(fs.statSync(image).blocks).to.be.below(before / 2);
    expect(imgfs(['check', image]).code).to.equal(0);
  });

  it('writes a data file only where the user allows it', () => {
    const image = make('qcow2', ['-o', `data_file=${at('data.bin')}`]);
    expect(imgfs(['resize', image, '8M']).stderr).to.include('--writable-refs');
    expect(imgfs(['resize', '--writable-refs', image, '8M'])).to.include({ code: 0, stderr: '' });
    expect(sizeOf(image, 'qcow2')).to.equal(8 * MIB);
    qemuImg('check', '-q', image);
  });

  it('refuses preallocation, which it does not have', () => {
    const image = make('qcow2');
    expect(imgfs(['resize', '--preallocation=off', image, '8M']).code).to.equal(0);
    for (const mode of ['metadata', 'falloc', 'full']) {
      const { code, stderr } = imgfs(['resize', `--preallocation=${mode}`, image, '9M']);
      expect({ code, stderr }).to.deep.equal({
        code: 1,
        stderr: `imgfs: --preallocation ${mode} is not supported yet: leave it out\n`,
      });
    }
    expect(imgfs(['resize', '--preallocation=some', image, '9M']).stderr).to.include('off, metadata, falloc, full');
    expect(sizeOf(image, 'qcow2')).to.equal(8 * MIB);
  });

  it('leaves an image alone that somebody uses', async () => {
    const image = make('qcow2');
    for (const options of [[], ['-r']]) {
      const session = await QemuSession.open(...options, '-f', 'qcow2', image);
      try {
        const { code, stderr } = imgfs(['resize', image, '8M']);
        expect(code).to.equal(REFUSED);
        expect(stderr).to.match(new RegExp(`in use by qemu-io \\(pid ${session.pid}\\)`));
      } finally {
        await session.close();
      }
    }
    expect(sizeOf(image, 'qcow2')).to.equal(4 * MIB);
  });
});
