import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import type { Run } from '../support/imgfs.js';
import { Machine } from '../support/namespace.js';
import { needsRoot } from '../support/place.js';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo, settle } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs } from '../support/resident.js';
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

function escaped(text: string): string {
  return text.replace(/[.()]/g, '\\$&');
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

  for (const [format, canShrink] of [
    ['vdi', true],
    ['vmdk', false],
    ['qcow', false],
  ] as const) {
    it(`${format}, which qemu-img cannot: QEMU reads what was there, and zeros behind it`, () => {
      const image = make(format);
      const before = qemuBytes(image, '-f', format);
      expect(imgfs(['resize', '-f', format, image, '+4M'])).to.deep.equal({
        code: 0,
        stdout: 'Image resized.\n',
        stderr: '',
      });
      const larger = Buffer.concat([before, Buffer.alloc(4 * MIB)]);
      expect(qemuBytes(image, '-f', format).equals(larger)).to.equal(true);
      const shrunk = imgfs(['resize', '-f', format, '--shrink', image, '-5M']);
      expect(shrunk.code, shrunk.stderr).to.equal(canShrink ? 0 : REFUSED);
      const expected = canShrink ? larger.subarray(0, 3 * MIB) : larger;
      expect(qemuBytes(image, '-f', format).equals(expected)).to.equal(true);
    });
  }

  it('luks: what is new is stored zeros, however it is preallocated', () => {
    const [image, passphrase] = [at('disk.luks'), at('passphrase')];
    fs.writeFileSync(passphrase, 'abc');
    const secret = ['--object', 'secret,id=s,data=abc'];
    qemuImg('create', '-q', '-f', 'luks', ...secret, '-o', 'key-secret=s,iter-time=10', image, '1M');
    for (const [mode, size] of [
      ['off', '2M'],
      ['falloc', '+1M'],
      ['full', '+1M'],
    ] as const) {
      const args = ['--password-file', passphrase, `--preallocation=${mode}`, image, size];
      expect(imgfs(['resize', ...args]).stderr).to.equal('');
    }
    const raw = at('disk.raw');
    const opened = `driver=luks,key-secret=s,file.filename=${image}`;
    qemuImg('convert', ...secret, '--image-opts', '-O', 'raw', opened, raw);
    const disk = fs.readFileSync(raw);
    expect(disk.length).to.equal(4 * MIB);
    expect(disk.subarray(MIB).equals(Buffer.alloc(3 * MIB))).to.equal(true);
    expect(fs.statSync(image).blocks * 512).to.be.at.least(3 * MIB);
  });

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

  it('refuses preallocation of what does not grow, and ways it does not know', () => {
    for (const format of ['raw', 'qcow2']) {
      const image = make(format);
      for (const size of ['4M', '2M']) {
        const args = ['-f', format, '--shrink', '--preallocation=falloc', image, size];
        expect(qemuResize(...args).code).to.equal(REFUSED);
        const { code, stderr } = imgfs(['resize', ...args]);
        expect({ code, stderr }).to.deep.equal({
          code: REFUSED,
          stderr: `imgfs: ${image}: only what a disk gains can be preallocated\n`,
        });
      }
      expect(imgfs(['resize', '--preallocation=some', image, '9M']).stderr).to.include('off, metadata, falloc, full');
      expect(sizeOf(image, format)).to.equal(4 * MIB);
    }
    const raw = ['-f', 'raw', '--preallocation=metadata', at('disk.raw'), '9M'];
    expect(qemuResize(...raw).code).to.equal(REFUSED);
    expect(imgfs(['resize', ...raw])).to.include({
      code: REFUSED,
      stderr: 'imgfs: raw has no preallocation by metadata\n',
    });
  });

  /** A qcow2 image as qemu-img maps it, without places, which are the writer's choice. */
  function mapOf(file: string): unknown {
    settle(file);
    const map = qemuImgJson('map', '--output=json', '-f', 'qcow2', file) as { length: number; offset?: number }[];
    const joined: { length: number; kind: string }[] = [];
    for (const { length, offset, ...extent } of map) {
      const kind = JSON.stringify({ ...extent, start: 0, placed: offset !== undefined });
      const last = joined.at(-1);
      if (last?.kind === kind) last.length += length;
      else joined.push({ length, kind });
    }
    return joined;
  }

  function blocksOf(file: string): number {
    settle(file);
    return fs.statSync(file).blocks * 512;
  }

  describe('with the new part preallocated, beside qemu-img', () => {
    const kinds: readonly (readonly [string, readonly string[], readonly string[]])[] = [
      ['qcow2', [], ['metadata', 'falloc', 'full']],
      ['clusters of 4 KiB', ['-o', 'cluster_size=4k'], ['metadata', 'falloc']],
      ['version 2', ['-o', 'compat=0.10'], ['metadata']],
      ['subclusters', ['-o', 'extended_l2=on'], ['metadata', 'full']],
    ];
    it('qcow2, metadata, in the middle of a cluster', () => expectSame('qcow2', ['--preallocation=metadata'], '7000k'));
    for (const [name, options, modes] of kinds) {
      for (const mode of modes) {
        it(`${name}, ${mode}`, () => {
          const [ours, theirs] = [make('qcow2', options, '4160k'), at('theirs')];
          fs.copyFileSync(ours, theirs);
          const args = ['-f', 'qcow2', `--preallocation=${mode}`];
          expect(qemuResize(...args, theirs, '9M').code).to.equal(0);
          expect(imgfs(['resize', ...args, ours, '9M'])).to.include({ code: 0, stderr: '' });
          expect(mapOf(ours)).to.deep.equal(mapOf(theirs));
          expect(Math.abs(blocksOf(ours) - blocksOf(theirs))).to.be.below(MIB);
          expect(blocksOf(ours) >= 5 * MIB).to.equal(mode !== 'metadata');
          qemuImg('check', '-q', ours);
          // Nothing of a written disk needs a place any more.
          const before = fs.statSync(ours).size;
          qemuIo(ours, ['write -P 3 4160k 5056k']);
          expect(fs.statSync(ours).size).to.equal(before);
          qemuImg('check', '-q', ours);
        });
      }
    }
    for (const mode of ['falloc', 'full']) {
      it(`raw, ${mode}`, () => {
        expectSame('raw', [`--preallocation=${mode}`], '9000001');
        // 1 MiB and 64 KiB of it were written.
        expect(blocksOf(at('disk.raw'))).to.be.within(9_000_001 - 3 * MIB, 9_000_001 - 2.5 * MIB);
      });
    }
  });

  describe('on a full file system', () => {
    needsRoot();
    const machine = new Machine();

    it('leaves the size and the image as they were', () => {
      const ran = machine.run(`
        mkdir "$HERE/small"; mount -t tmpfs -o size=8m imgfs-test "$HERE/small"; cd "$HERE/small"
        qemu-img create -q -f qcow2 a.qcow2 2M; qemu-io -c 'write -P 1 0 1M' a.qcow2 > /dev/null
        qemu-img create -q -f raw a.raw 2M; cp a.qcow2 before
        for disk in a.qcow2 a.raw; do for mode in falloc full; do
          imgfs resize --preallocation=$mode $disk 12M && echo "$disk took it"
          qemu-img info $disk | grep 'virtual size'; stat -c '%s %n' $disk
        done; done || true
        cmp a.qcow2 before; qemu-img check -q a.qcow2
        imgfs resize --preallocation=full a.qcow2 4M; qemu-img check -q a.qcow2; qemu-img compare -q a.qcow2 before`);
      expect(ran).to.include({ code: 0 });
      const size = 'virtual size: 2 MiB (2097152 bytes)';
      const raw = `${size}\n2097152 a.raw\n`;
      expect(ran.stdout).to.match(
        new RegExp(`^(${escaped(size)}\\n[0-9]+ a.qcow2\\n){2}(${escaped(raw)}){2}Image resized.\n$`),
      );
      expect(ran.stderr.match(/^imgfs: .*no space left on device$/gm)).to.have.length(4);
    });
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
