import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { expect } from 'chai';
import { libc } from '../../src/lib/libc.js';
import { imgfs, MAIN } from '../support/imgfs.js';
import { eventually } from '../support/place.js';
import { needsTool, qemuImg, settle } from '../support/qemu.js';
import { scratch } from '../support/scratch.js';
import { convert, qemuConvert } from './converting.js';

const MIB = 2 ** 20;

describe('imgfs convert: packing, limits, salvage, secrets', function () {
  this.timeout(60_000);
  needsTool('qemu-img');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);
  const out = (name = 'disk'): string => at(`out/${name}`);
  const names = (): readonly string[] => fs.readdirSync(at('out')).sort();
  /** Of no whole number of clusters; compressible, random, zeros that are stored, holes. */
  const bytes = Buffer.alloc(5 * MIB + 3 * 512);

  before(() => {
    for (let k = 0; k < 2 * MIB; k += 64) bytes.write(`line ${k} of a text`, k);
    randomBytes(300_000).copy(bytes, 3 * MIB + 1000);
    randomBytes(700).copy(bytes, bytes.length - 700);
    fs.writeFileSync(at('a.raw'), bytes);
    qemuImg('convert', '-f', 'raw', '-c', '-O', 'qcow2', at('a.raw'), at('packed.qcow2'));
    fs.writeFileSync(at('secret'), 'very secret');
  });

  beforeEach(() => fs.mkdirSync(at('out')));
  afterEach(() => fs.rmSync(at('out'), { recursive: true }));

  const PACKED: readonly (readonly [format: string, ...options: readonly string[]])[] = [
    ['qcow2'],
    ['qcow2', '-o', 'compression_type=zstd'],
    ['qcow2', '-o', 'cluster_size=512'],
    ['qcow2', '-o', 'cluster_size=2M'],
    ['qcow2', '-S', '0'],
    ['qcow2', '-W'],
    ['qcow2', '-m', '1'],
    ['vmdk', '-o', 'subformat=streamOptimized'],
  ];
  for (const [format, ...options] of PACKED) {
    it(`-c ${format} ${options.join(' ')}: packed as qemu-img packs it`, async () => {
      for (const source of ['a.raw', 'packed.qcow2']) {
        const args = ['-c', '-O', format, ...options, at(source)];
        expect(await convert(...args, out('ours'))).to.deep.equal({ code: 0, error: '' });
        qemuImg('compare', '-f', 'raw', '-F', format, at('a.raw'), out('ours'));
        expect(qemuConvert(...args, out('theirs'))).to.equal(0);
        settle(out('ours'));
        const [ours, theirs] = ['ours', 'theirs'].map((name) => fs.statSync(out(name)).blocks) as [number, number];
        expect(ours).to.be.at.most(theirs * 1.05 + 128);
        if (format === 'qcow2') qemuImg('check', '-q', out('ours'));
        for (const name of names()) fs.rmSync(out(name));
      }
    });
  }

  it('-c is refused as qemu-img refuses it', async () => {
    const lines = [
      ['-c', '-O', 'qcow2', '-o', 'preallocation=metadata'],
      [
        '-c',
        '-O',
        'qcow2',
        '-o',
        'encrypt.format=luks,encrypt.key-secret=s',
        '--object',
        `secret,id=s,file=${at('secret')}`,
      ],
      ['-c', '-O', 'vmdk', '-o', 'subformat=monolithicFlat'],
      ['-C', '--salvage'],
      ['-r', 'x'],
      ['-r', '-1'],
    ];
    for (const line of lines) {
      const { code, error } = await convert(...line, at('a.raw'), out());
      expect(error, line.join(' ')).to.match(/^imgfs: [^\n]+$/);
      expect(names(), line.join(' ')).to.deep.equal([]);
      expect(code, line.join(' ')).to.equal(qemuConvert(...line, at('a.raw'), out()));
      for (const name of names()) fs.rmSync(out(name));
    }
  });

  it('-r limits how fast is written', async () => {
    const start = performance.now();
    expect(await convert('-r', '4M', '-S', '0', '-O', 'qcow2', at('a.raw'), out())).to.include({ code: 0 });
    // What fits into one second may come at once.
    expect(performance.now() - start).to.be.greaterThan(200);
    qemuImg('compare', '-f', 'raw', '-F', 'qcow2', at('a.raw'), out());
    expect(await convert('-r', '0', at('a.raw'), out('other'))).to.include({ code: 0 });
  });

  it('--salvage makes zeros of what cannot be read, and says of what', async () => {
    fs.copyFileSync(at('packed.qcow2'), out('bad'));
    const fd = fs.openSync(out('bad'), 'r+');
    fs.writeSync(fd, Buffer.alloc(1300, 0xff), 0, 1300, fs.fstatSync(fd).size - 1300);
    fs.closeSync(fd);
    expect((await convert('-O', 'raw', out('bad'), out())).code).to.equal(1);
    const run = imgfs(['convert', '--salvage', '-O', 'raw', out('bad'), out()]);
    expect(run.code, run.stderr).to.equal(0);
    expect(run.stderr).to.match(/^(?:imgfs: .*\d+ bytes at \d+ become zeros: .*\n)+$/);
    expect(
      fs
        .readFileSync(out())
        .subarray(0, 2 * MIB)
        .equals(bytes.subarray(0, 2 * MIB)),
    ).to.equal(true);
    qemuImg('convert', '--salvage', '-q', '-f', 'qcow2', '-O', 'raw', out('bad'), out('theirs'));
    expect(fs.readFileSync(out()).equals(fs.readFileSync(out('theirs')))).to.equal(true);
  });

  it('encrypted targets: by --password-file or a secret, read by qemu-img', async () => {
    const qemu = (driver: string, key: string): string[] => [
      ...['--object', `secret,id=s,file=${at('secret')}`, '--image-opts'],
      `driver=raw,file.filename=${at('a.raw')}`,
      `driver=${driver},file.filename=${out()},${key}=s`,
    ];
    const secret = ['--object', `secret,id=s,file=${at('secret')}`];
    const luks = 'encrypt.format=luks,encrypt.iter-time=10';
    await convert('--password-file', at('secret'), '--verify', '-O', 'qcow2', '-o', luks, at('a.raw'), out());
    qemuImg('compare', ...qemu('qcow2', 'encrypt.key-secret'));
    await convert(...secret, '-O', 'qcow2', '-o', `${luks},encrypt.key-secret=s`, at('a.raw'), out());
    qemuImg('compare', ...qemu('qcow2', 'encrypt.key-secret'));
    await convert(...secret, '--verify', '-O', 'luks', '-o', 'key-secret=s,iter-time=10', at('a.raw'), out());
    qemuImg('compare', ...qemu('luks', 'key-secret'));
    // From one passphrase to another.
    fs.writeFileSync(at('other'), 'another');
    const files = ['--password-file', `disk=${at('secret')}`, '--password-file', `new=${at('other')}`];
    const again = await convert(...files, '-f', 'luks', '-O', 'qcow2', '-o', luks, out(), out('new'));
    expect(again).to.deep.equal({ code: 0, error: '' });
    const back = await convert('--password-file', at('other'), '-O', 'raw', out('new'), out('back'));
    expect(back).to.deep.equal({ code: 0, error: '' });
    expect(fs.readFileSync(out('back')).equals(bytes)).to.equal(true);
  });

  it('--verify reads back what was written, in every format and with -n', async () => {
    for (const format of ['raw', 'qcow', 'qcow2', 'vdi', 'vmdk', 'cow']) {
      expect(await convert('--verify', '-O', format, at('a.raw'), out(format)), format).to.include({ code: 0 });
    }
    expect(await convert('--verify', '-n', '-O', 'qcow2', at('a.raw'), out('qcow2'))).to.include({ code: 0 });
    expect(await convert('--verify', '-O', 'qcow2', '-c', out('vmdk'), out())).to.include({ code: 0 });
    expect((await convert('--verify', '--salvage', at('a.raw'), out('none'))).code).to.equal(1);
  });

  it('a replaced file keeps its access control list and its attributes', async () => {
    const calls = libc();
    if (calls === undefined) throw new Error('there is no FFI');
    fs.writeFileSync(out(), 'old');
    // Version 2: owner rw, user 65534 r, group none, mask r, others none.
    const entries = [
      [1, 6, 0xffffffff],
      [2, 4, 65_534],
      [4, 0, 0xffffffff],
      [16, 4, 0xffffffff],
      [32, 0, 0xffffffff],
    ] as const;
    const list = Buffer.alloc(4 + 8 * entries.length);
    list.writeUInt32LE(2);
    for (const [index, [tag, may, who]] of entries.entries()) {
      list.writeUInt16LE(tag, 4 + 8 * index);
      list.writeUInt16LE(may, 6 + 8 * index);
      list.writeUInt32LE(who, 8 + 8 * index);
    }
    calls.setExtended(out(), 'system.posix_acl_access', list);
    calls.setExtended(out(), 'user.note', Buffer.from('kept'));
    expect(await convert('-O', 'qcow2', at('a.raw'), out())).to.include({ code: 0 });
    const fd = fs.openSync(out(), 'r');
    expect(calls.extendedNames(fd)).to.include.members(['system.posix_acl_access', 'user.note']);
    expect(calls.getExtended(fd, 'system.posix_acl_access')).to.deep.equal(list);
    expect(String(calls.getExtended(fd, 'user.note'))).to.equal('kept');
    fs.closeSync(fd);
  });

  describe('with threads at work', () => {
    before(() => {
      // Much to pack and to unpack.
      const much = Buffer.alloc(48 * MIB);
      for (let n = 0; n < much.length; n += 16) much.writeUInt32LE((n * 2_654_435_761) >>> 0, n);
      fs.writeFileSync(at('much.raw'), much);
      qemuImg(
        'convert',
        '-f',
        'raw',
        '-c',
        '-O',
        'qcow2',
        '-o',
        'compression_type=zstd',
        at('much.raw'),
        at('much.qcow2'),
      );
    });

    it('Ctrl-C leaves the old file, and nothing of the new one', async () => {
      fs.writeFileSync(out(), 'old');
      const args = ['convert', '-c', '-O', 'qcow2', at('much.qcow2'), at('much.qcow2'), out()];
      const child = spawn(process.execPath, [MAIN, ...args], { stdio: 'ignore' });
      const ended = new Promise<string | null>((resolve) => child.once('exit', (_, how) => resolve(how)));
      const wrote = (): number =>
        Number(/^wchar: (\d+)$/m.exec(fs.readFileSync(`/proc/${child.pid}/io`, 'ascii'))?.[1] ?? 0);
      await eventually('it writes', () => wrote() > 2 * MIB);
      child.kill('SIGINT');
      expect(await ended).to.equal('SIGINT');
      expect(names()).to.deep.equal(['disk']);
      expect(fs.readFileSync(out(), 'utf8')).to.equal('old');
    });

    it('a full host leaves the old file, and nothing of the new one', () => {
      fs.writeFileSync(out(), 'old');
      const limited = `ulimit -f 2000; trap '' XFSZ; exec "$0" "$1" convert -c -O qcow2 "$2" "$3"`;
      const run = spawnSync('bash', ['-c', limited, process.execPath, MAIN, at('much.qcow2'), out()], {
        encoding: 'utf8',
      });
      expect(run.status).to.equal(1);
      expect(run.stderr).to.match(/^imgfs: [^\n]+\n$/);
      expect(names()).to.deep.equal(['disk']);
      expect(fs.readFileSync(out(), 'utf8')).to.equal('old');
    });
  });
});
