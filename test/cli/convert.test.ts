import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { compareDisks } from '../../src/convert/compare.js';
import { formats } from '../../src/formats/index.js';
import { openImage } from '../../src/image/open.js';
import { drained } from '../../src/lib/steps.js';
import { imgfs, MAIN } from '../support/imgfs.js';
import { withoutFfi } from '../support/no-ffi.js';
import { eventually } from '../support/place.js';
import { needsTool, qemuImg, qemuImgJson, qemuIo, settle } from '../support/qemu.js';
import { hasTool, noLoopDevices, scratch, skipBecause, withLoopDevice } from '../support/scratch.js';
import { convert, qemuConvert } from './converting.js';

const MIB = 2 ** 20;
const SIZE = 3 * MIB + 5 * 512;

/** What disks are converted from: name, format, how they are made. All of SIZE but where the name says otherwise. */
const SOURCES: readonly (readonly [name: string, format: string, make: (file: string) => void])[] = [
  ['a.raw', 'raw', raw],
  ['odd.raw', 'raw', (file) => fs.writeFileSync(file, Buffer.alloc(100_001, 7))],
  ['zeros.raw', 'raw', (file) => fs.writeFileSync(file, Buffer.alloc(SIZE))],
  ['hole.raw', 'raw', truncated],
  ['a.qcow2', 'qcow2', (file) => written(file, 'qcow2', [])],
  ['clear.qcow2', 'qcow2', (file) => written(file, 'qcow2', ['-o', 'cluster_size=4k'], ['write -z 0 2M'])],
  ['packed.qcow2', 'qcow2', (file) => from(file, 'qcow2', '-c')],
  ['zstd.qcow2', 'qcow2', (file) => from(file, 'qcow2', '-c', '-o', 'compression_type=zstd')],
  ['above.qcow2', 'qcow2', above],
  ['a.qcow', 'qcow', (file) => from(file, 'qcow')],
  ['a.vdi', 'vdi', (file) => from(file, 'vdi')],
  ['a.vmdk', 'vmdk', (file) => from(file, 'vmdk')],
  ['flat.vmdk', 'vmdk', (file) => from(file, 'vmdk', '-o', 'subformat=monolithicFlat')],
  ['stream.vmdk', 'vmdk', (file) => from(file, 'vmdk', '-o', 'subformat=streamOptimized')],
];

/** What they are converted to, and with which options. */
const TARGETS: readonly (readonly [format: string, ...options: readonly string[]])[] = [
  ['raw'],
  ['raw', '-S', '64k'],
  ['raw', '-S', '0'],
  ['raw', '-C'],
  ['qcow'],
  ['qcow2'],
  ['qcow2', '-o', 'compat=0.10,cluster_size=4k'],
  ['qcow2', '-o', 'cluster_size=2M'],
  ['qcow2', '-o', 'extended_l2=on'],
  ['qcow2', '-o', 'preallocation=metadata'],
  ['vdi'],
  ['qcow2', '-C'],
  ['vdi', '-o', 'static=on'],
  ['vmdk'],
  ['vmdk', '-o', 'subformat=monolithicFlat'],
  ['vmdk', '-C'],
  ['vmdk', '-o', 'subformat=twoGbMaxExtentSparse'],
];

function truncated(file: string): void {
  fs.writeFileSync(file, '');
  fs.truncateSync(file, SIZE);
}

function raw(file: string): void {
  const fd = fs.openSync(file, 'w');
  fs.ftruncateSync(fd, SIZE);
  fs.writeSync(fd, Buffer.alloc(200_000, 1), 0, 200_000, 65_536);
  fs.writeSync(fd, Buffer.alloc(100_000), 0, 100_000, MIB);
  fs.writeSync(fd, Buffer.alloc(3 * 512, 2), 0, 3 * 512, SIZE - 3 * 512);
  fs.closeSync(fd);
}

function written(file: string, format: string, options: readonly string[], commands: readonly string[] = []): void {
  qemuImg('create', '-q', '-f', format, ...options, file, String(SIZE));
  qemuIo(file, [...commands, 'write -P 1 64k 200000', 'write -P 2 2M 100000', 'write -P 0 1M 64k'], ['-f', format]);
}

function from(file: string, format: string, ...options: readonly string[]): void {
  qemuImg('convert', '-f', 'raw', '-O', format, ...options, path.join(path.dirname(file), 'a.raw'), file);
}

function above(file: string): void {
  qemuImg('create', '-q', '-f', 'qcow2', '-b', 'a.raw', '-F', 'raw', file, '4M');
  qemuIo(file, ['write -P 3 100k 10k', 'write -z 64k 64k', 'write -P 4 3500k 64k']);
}

describe('imgfs convert', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  before(() => {
    for (const [name, , make] of SOURCES) make(at(name));
    settle(at('a.raw'));
  });

  beforeEach(() => fs.mkdirSync(at('out')));
  afterEach(() => fs.rmSync(at('out'), { recursive: true }));

  const out = (name = 'disk'): string => at(`out/${name}`);
  const names = (): readonly string[] => fs.readdirSync(at('out')).sort();

  /** An empty file for a file system, and where it is to be mounted: `out('mnt')`. */
  function emptyDisk(name: string, size: number): void {
    fs.mkdirSync(out('mnt'));
    fs.writeFileSync(out(name), '');
    fs.truncateSync(out(name), size);
  }

  /**
   * What a script prints, whose arguments are the directory `out`, node and the program. In a mount namespace of its own:
   * nothing of it outlives the script.
   */
  function said(script: string): string {
    const run = spawnSync('unshare', ['-m', 'bash', '-c', script, '-', at('out'), process.execPath, MAIN], {
      encoding: 'utf8',
    });
    expect(run.stderr).to.equal('');
    return run.stdout;
  }

  /** Where two images differ, as imgfs reads both; undefined where they do not. */
  function difference(one: string, format: string, other: string, otherFormat: string): unknown {
    const options = { formats, references: { follow: true, allowed: [at('.')] }, forceShare: false, warn: () => {} };
    const { image: first } = openImage(one, { ...options, format });
    const { image: second } = openImage(other, { ...options, format: otherFormat });
    try {
      return drained(compareDisks(first, second, { strict: false }));
    } finally {
      first.close();
      second.close();
    }
  }

  /** What qemu-img tells of it, but for what no two images have in common. */
  function properties(file: string, format: string): unknown {
    const differs = new Set(['actual-size', 'cid', 'parent-cid', 'filename', 'extents', 'file', 'children']);
    return JSON.parse(qemuImg('info', '--output=json', '-f', format, file), (key, value: unknown) =>
      differs.has(key) ? undefined : value,
    );
  }

  /** Bytes of all files that begin with that name. */
  function hostBytes(prefix: string): number {
    const own = names().filter((name) => name.startsWith(prefix));
    settle(out(own[0]));
    return own.reduce((sum, name) => sum + fs.statSync(out(name)).blocks * 512, 0);
  }

  for (const [source, format] of SOURCES) {
    it(`${source} to every format, as qemu-img does it`, async () => {
      for (const [target, ...options] of TARGETS) {
        const context = `${source} to ${target} ${options.join(' ')}`;
        const args = ['-f', format, '-O', target, ...options, at(source)];
        const result = await convert(...args, out('ours.img'));
        const expected = qemuConvert(...args, out('theirs.img'));
        expect(result.code, `${context}: ${result.error}`).to.equal(expected);
        if (expected === 0) {
          qemuImg('compare', '-f', format, '-F', target, at(source), out('ours.img'));
          expect(properties(out('ours.img'), target), context).to.deep.equal(properties(out('theirs.img'), target));
          // Not one block more than there is to say, but for reserves that are given back; -C keeps zeros that are stored.
          const most = options.includes('-C') ? Infinity : hostBytes('theirs') + 128 * 1024;
          expect(hostBytes('ours'), context).to.be.at.most(most);
          if (target !== 'raw' && target !== 'qcow') expect(imgfsCheck(out('ours.img'), target), context).to.equal(0);
        }
        for (const name of names()) fs.rmSync(out(name));
      }
    });
  }

  function imgfsCheck(file: string, format: string): number | null {
    const { status } = spawnSync('qemu-img', ['check', '-q', '-f', format, file], { stdio: 'ignore' });
    // A flat vmdk has nothing to check.
    return status === 63 ? 0 : status;
  }

  it('cow, which qemu-img no longer knows, from every format and to raw', async () => {
    for (const [source, format] of SOURCES) {
      expect((await convert('-f', format, '-O', 'cow', at(source), out('disk.cow'))).error, source).to.equal('');
      expect(difference(at(source), format, out('disk.cow'), 'cow'), source).to.equal(undefined);
      expect((await convert('-f', 'cow', out('disk.cow'), out('disk.raw'))).error).to.equal('');
      expect(difference(at(source), format, out('disk.raw'), 'raw'), source).to.equal(undefined);
    }
  });

  it('several sources one after the other, each filled up to its sector', async () => {
    const args = ['-f', 'raw', '-O', 'qcow2', at('odd.raw'), at('a.raw'), at('odd.raw')];
    expect((await convert(...args, out())).error).to.equal('');
    expect(qemuConvert(...args, out('theirs'))).to.equal(0);
    qemuImg('compare', out(), out('theirs'));
    expect(properties(out(), 'qcow2')).to.deep.equal(properties(out('theirs'), 'qcow2'));
  });

  it('a snapshot, by id, by name, and as qemu-img spells both', async () => {
    fs.copyFileSync(at('a.qcow2'), out('source'));
    qemuImg('snapshot', '-c', 'before', out('source'));
    qemuIo(out('source'), ['write -P 9 0 1M']);
    for (const which of [
      '1',
      'before',
      'snapshot.id=1',
      'snapshot.name=before',
      'snapshot.id=1,snapshot.name=before',
    ]) {
      expect((await convert('-l', which, '-O', 'raw', out('source'), out())).error, which).to.equal('');
      expect(difference(at('a.qcow2'), 'qcow2', out(), 'raw'), which).to.equal(undefined);
      fs.rmSync(out());
    }
    for (const which of ['2', 'after', 'snapshot.id=before', 'snapshot.id=1,snapshot.name=after', 'snapshot.wat=1']) {
      expect((await convert('-l', which, '-O', 'raw', out('source'), out())).code, which).to.equal(1);
      expect(qemuConvert('-l', which, '-O', 'raw', out('source'), out()), which).to.equal(1);
    }
  });

  it('into a data file, which appears with its image', async () => {
    const args = ['-O', 'qcow2', '-o', 'data_file=data,data_file_raw=on', at('a.vmdk'), out()];
    for (let n = 0; n < 2; n++) {
      expect((await convert(...args)).error).to.equal('');
      expect(names()).to.deep.equal(['data', 'disk']);
      expect(difference(at('a.raw'), 'raw', out('data'), 'raw')).to.equal(undefined);
      expect(difference(at('a.raw'), 'raw', out(), 'qcow2')).to.equal(undefined);
    }
  });

  describe('above a backing file', () => {
    for (const [name, ...options] of [['qcow2'], ['qcow2', '-o', 'compat=0.10'], ['qcow'], ['cow']] as const) {
      it(`${name} ${options.join(' ')}: only what the source adds to it`, async () => {
        const args = ['-O', name, ...options, '-B', at('a.raw'), '-F', 'raw', at('above.qcow2')];
        expect((await convert(...args, out())).error).to.equal('');
        expect(difference(at('above.qcow2'), 'qcow2', out(), name)).to.equal(undefined);
        if (name === 'cow') return;
        expect(qemuConvert(...args, out('theirs'))).to.equal(0);
        qemuImg('compare', '-F', name, at('above.qcow2'), out());
        expect(properties(out(), name)).to.deep.equal(properties(out('theirs'), name));
        expect(hostBytes('disk')).to.be.at.most(hostBytes('theirs') + 128 * 1024);
      });
    }

    it('zeros of a source without one hide it; -b and options say the same as -B', async () => {
      fs.writeFileSync(out('base.raw'), Buffer.alloc(SIZE, 0xee));
      for (const letters of [
        ['-B', out('base.raw'), '-F', 'raw'],
        ['-b', 'base.raw', '-F', 'raw'],
        ['-o', 'backing_file=base.raw,backing_fmt=raw'],
      ]) {
        expect((await convert('-O', 'qcow2', ...letters, at('a.qcow2'), out())).error).to.equal('');
        expect(difference(at('a.qcow2'), 'qcow2', out(), 'qcow2')).to.equal(undefined);
        expect(properties(out(), 'qcow2')).to.have.property('backing-filename-format', 'raw');
        fs.rmSync(out());
      }
    });

    it('with -n: into an overlay that is there', async () => {
      qemuImg('create', '-q', '-f', 'qcow2', '-b', at('a.raw'), '-F', 'raw', out(), '4M');
      expect(
        (await convert('-n', '--allow-refs', at('.'), '-O', 'qcow2', '-B', at('a.raw'), at('above.qcow2'), out()))
          .error,
      ).to.equal('');
      expect(difference(at('above.qcow2'), 'qcow2', out(), 'qcow2')).to.equal(undefined);
      qemuImg('check', '-q', out());
    });
  });

  describe('-n', () => {
    it('writes into what is there, of every format, zeros too', async () => {
      for (const [target, ...letters] of [
        ['raw'],
        ['qcow'],
        ['qcow2'],
        ['vdi'],
        ['vmdk'],
        ['raw', '-C'],
        ['qcow2', '-C'],
      ] as [string, ...string[]][]) {
        qemuImg('create', '-q', '-f', target, out(), '4M');
        qemuIo(out(), ['write -P 0xee 0 4M'], ['-f', target]);
        const inode = fs.statSync(out()).ino;
        expect((await convert('-n', ...letters, '-f', 'raw', '-O', target, at('a.raw'), out())).error, target).to.equal(
          '',
        );
        expect(fs.statSync(out()).ino).to.equal(inode);
        qemuImg('convert', '-f', target, '-O', 'raw', out(), out('read'));
        const read = fs.readFileSync(out('read'));
        expect(read.subarray(0, SIZE).equals(fs.readFileSync(at('a.raw'))), target).to.equal(true);
        expect(read.subarray(SIZE).equals(Buffer.alloc(4 * MIB - SIZE, 0xee)), target).to.equal(true);
        fs.rmSync(out());
      }
    });

    it('leaves zeros alone where the target is said to be zeros', async () => {
      fs.writeFileSync(out(), Buffer.alloc(SIZE, 0xee));
      expect((await convert('-n', '--target-is-zero', '-f', 'raw', at('a.raw'), out())).error).to.equal('');
      const bytes = fs.readFileSync(out());
      expect(bytes.subarray(0, 65_537).equals(Buffer.concat([Buffer.alloc(65_536, 0xee), Buffer.from([1])]))).to.equal(
        true,
      );
    });

    it('an odd target takes what it has room for, exactly', async () => {
      fs.writeFileSync(out(), Buffer.alloc(100_001, 0xee));
      expect((await convert('-n', '-f', 'raw', at('odd.raw'), out())).error).to.equal('');
      expect(fs.readFileSync(out()).equals(fs.readFileSync(at('odd.raw')))).to.equal(true);
      fs.truncateSync(out(), 100_000);
      expect((await convert('-n', '-f', 'raw', at('odd.raw'), out())).error).to.include('has 100000 bytes');
    });

    it('refuses targets that are too small, or not there', async () => {
      fs.writeFileSync(out(), Buffer.alloc(SIZE - 512, 0xee));
      expect((await convert('-n', at('a.qcow2'), out())).error).to.include(`has ${SIZE - 512} bytes`);
      expect(fs.readFileSync(out()).equals(Buffer.alloc(SIZE - 512, 0xee))).to.equal(true);
      expect((await convert('-n', at('a.qcow2'), out('nobody'))).code).to.equal(1);
      expect(names()).to.deep.equal(['disk']);
    });

    it('writes through a hard link, which nothing else does', async () => {
      fs.writeFileSync(out('other'), Buffer.alloc(SIZE, 0xee));
      fs.linkSync(out('other'), out());
      expect((await convert(at('a.qcow2'), out())).error).to.include('other names');
      expect(fs.readFileSync(out()).equals(Buffer.alloc(SIZE, 0xee))).to.equal(true);
      expect((await convert('-n', at('a.qcow2'), out())).error).to.equal('');
      expect(difference(at('a.qcow2'), 'qcow2', out('other'), 'raw')).to.equal(undefined);
    });
  });

  it('ends as qemu-img ends with wrong lines, and leaves nothing', async () => {
    const [a, q, o] = [at('a.raw'), at('a.qcow2'), out()];
    const lines: readonly (readonly string[])[] = [
      [],
      [a],
      ['-O', 'wat', a, o],
      ['-f', 'wat', a, o],
      ['-f', 'qcow2', a, o],
      ['-O', 'bochs', a, o],
      [at('nobody'), o],
      ['-O', 'qcow2', '-o', 'wat=1', a, o],
      ['-O', 'qcow2', '-o', 'cluster_size=3', a, o],
      ['-O', 'qcow2', '-B', a, q, o],
      ['-O', 'qcow2', '-F', 'raw', q, o],
      ['-O', 'qcow2', '-B', at('nobody'), '-F', 'raw', q, o],
      ['-O', 'raw', '-B', a, '-F', 'raw', q, o],
      ['-O', 'qcow2', '-B', a, '-F', 'raw', a, a, o],
      ['-l', '1', q, q, o],
      ['-l', '1', q, o],
      ['-l', '1', '-f', 'raw', a, o],
      ['--target-is-zero', a, o],
      ['-n', '-o', 'preallocation=off', a, o],
      ['-S', '100', a, o],
      ['-S', '32M', a, o],
      ['-S', 'x', a, o],
      ['-C', '-S', '4k', a, o],
      ['-C', '-S', '0', a, o],
      ['--wat', a, o],
      ['-c', '-O', 'vdi', a, o],
      ['-c', a, o],
      ['-c', '-C', '-O', 'qcow2', a, o],
      ['-m', '0', a, o],
      ['-m', '17', a, o],
      ['-m', 'x', a, o],
      ['-O', 'qcow2', '-o', 'compat=0.10,lazy_refcounts=on', a, o],
    ];
    for (const line of lines) {
      const { code, error } = await convert(...line);
      expect(error, line.join(' ')).to.match(/^imgfs: [^\n]+$/);
      expect(names(), line.join(' ')).to.deep.equal([]);
      expect(code, line.join(' ')).to.equal(qemuConvert(...line));
      for (const name of names()) fs.rmSync(out(name));
    }
    expect(imgfs(['convert', '-O', 'qcow2', '-o', 'help']).stdout).to.include('cluster_size=SIZE');
    expect(imgfs(['convert', a])).to.include({ code: 1, stdout: '' });
  });

  it('refuses a target that is its own source, however it is spelled, and what lies below', async () => {
    for (const name of ['a.raw', 'above.qcow2', 'flat.vmdk', 'flat-flat.vmdk']) fs.copyFileSync(at(name), out(name));
    fs.symlinkSync('above.qcow2', out('link'));
    fs.linkSync(out('above.qcow2'), out('hard'));
    const before = names().map((name) => fs.readFileSync(out(name)).toString('base64'));
    for (const target of ['above.qcow2', '../out/./above.qcow2', 'link', 'hard', 'a.raw']) {
      for (const n of [[], ['-n']]) {
        const { error } = await convert(...n, '-O', 'qcow2', out('above.qcow2'), `${at('out')}/${target}`);
        expect(error, target).to.include('is what would be read');
      }
    }
    expect((await convert('-O', 'raw', out('flat.vmdk'), out('flat-flat.vmdk'))).error).to.include('would be read');
    expect(names().map((name) => fs.readFileSync(out(name)).toString('base64'))).to.deep.equal(before);
  });

  describe('a file that is replaced', () => {
    it('keeps its owner and mode, and what links to it', async () => {
      fs.writeFileSync(out(), 'old');
      fs.chmodSync(out(), 0o640);
      if (process.getuid?.() === 0) fs.chownSync(out(), 1234, 4321);
      const { uid, gid, mode } = fs.statSync(out());
      fs.symlinkSync('disk', out('link'));
      expect((await convert('-O', 'qcow2', at('a.raw'), out('link'))).error).to.equal('');
      expect(fs.statSync(out())).to.include({ uid, gid, mode });
      expect(fs.readlinkSync(out('link'))).to.equal('disk');
      expect(difference(at('a.raw'), 'raw', out(), 'qcow2')).to.equal(undefined);
    });

    it('stays when the source cannot be read to its end', async () => {
      fs.copyFileSync(at('packed.qcow2'), out('broken'));
      const fd = fs.openSync(out('broken'), 'r+');
      // The compressed clusters come last.
      fs.writeSync(fd, Buffer.alloc(512, 0xff), 0, 512, fs.fstatSync(fd).size - 512);
      fs.closeSync(fd);
      fs.writeFileSync(out(), 'old');
      expect((await convert('-O', 'vdi', out('broken'), out())).code).to.equal(1);
      expect(fs.readFileSync(out(), 'utf8')).to.equal('old');
      expect(names()).to.deep.equal(['broken', 'disk']);
    });

    it('stays when the host is full, and nothing is left of the new one', () => {
      fs.writeFileSync(out(), 'old');
      for (const format of ['raw', 'qcow2', 'vdi', 'vmdk']) {
        const limited = `ulimit -f 150; trap '' XFSZ; exec "$0" "$1" convert -O ${format} "$2" "$3"`;
        const { status, stderr } = spawnSync('bash', ['-c', limited, process.execPath, MAIN, at('a.raw'), out()], {
          encoding: 'utf8',
        });
        expect(status, format).to.equal(1);
        expect(stderr).to.match(/^imgfs: [^\n]+\n$/);
        expect(fs.readFileSync(out(), 'utf8')).to.equal('old');
        expect(names()).to.deep.equal(['disk']);
      }
    });
  });

  describe('interrupted', () => {
    /** Zeros that are stored, many times over: much to read, nothing to write. */
    async function interrupted(signal: NodeJS.Signals, env: Readonly<Record<string, string>>): Promise<void> {
      fs.writeFileSync(at('much.raw'), Buffer.alloc(64 * MIB));
      const there = names();
      const sources = Array.from({ length: 200 }, () => at('much.raw'));
      const args = ['convert', '-f', 'raw', '-O', 'qcow2', ...sources, out()];
      const child = spawn(process.execPath, [MAIN, ...args], { stdio: 'ignore', env: { ...process.env, ...env } });
      const ended = new Promise<string | null>((resolve) => child.once('exit', (_, how) => resolve(how)));
      const read = (): number =>
        Number(/^rchar: (\d+)$/m.exec(fs.readFileSync(`/proc/${child.pid}/io`, 'ascii'))?.[1] ?? 0);
      await eventually('it reads', () => read() > 256 * MIB);
      child.kill(signal);
      expect(await ended).to.equal(signal);
      expect(names()).to.deep.equal(there);
    }

    it('leaves the old file, and nothing of the new one', async () => {
      fs.writeFileSync(out(), 'old');
      await interrupted('SIGINT', {});
      expect(fs.readFileSync(out(), 'utf8')).to.equal('old');
    });

    it('leaves nothing where files cannot do without a name', async () => {
      const file = (name: string, text: string | Uint8Array): string => {
        fs.writeFileSync(at(name), text);
        return at(name);
      };
      await interrupted('SIGTERM', withoutFfi({ file }));
    });
  });

  it('a block device is written where it is, as a new image and with -n', async function () {
    skipBecause(this, noLoopDevices());
    fs.writeFileSync(out('medium'), Buffer.alloc(8 * MIB, 0xee));
    const { length } = names();
    await new Promise<void>((resolve, reject) => {
      withLoopDevice(out('medium'), [], (device) => {
        const run = (...args: readonly string[]): void => {
          expect(imgfs(['convert', '-f', 'raw', ...args, at('a.raw'), device])).to.include({ code: 0, stderr: '' });
        };
        try {
          run('-O', 'qcow2');
          qemuImg('compare', '-f', 'raw', '-F', 'qcow2', at('a.raw'), device);
          run('-n', '-O', 'raw');
          const read = Buffer.alloc(SIZE);
          const fd = fs.openSync(device, 'r');
          fs.readSync(fd, read, 0, SIZE, 0);
          fs.closeSync(fd);
          expect(read.equals(fs.readFileSync(at('a.raw')))).to.equal(true);
          resolve();
        } catch (error) {
          reject(error);
        }
      });
    });
    expect(names()).to.have.length(length);
  });

  it('shares blocks where the file system can, zeros looked for or not: XFS', function () {
    skipBecause(this, noLoopDevices() ?? (hasTool('mkfs.xfs') ? undefined : 'mkfs.xfs is not installed'));
    emptyDisk('xfs', 400 * MIB);
    const script = `
      set -e; mkfs.xfs -q -f "$1/xfs"; mount -o loop "$1/xfs" "$1/mnt"; cd "$1/mnt"
      head -c 32M /dev/urandom > a.raw; truncate -s 5G a.raw; sync
      dd if=/dev/zero of=a.raw bs=1M seek=4 count=4 conv=notrunc status=none; sync
      before=$(stat -f -c %f .)
      for letter in -C "-S 4k"; do
        for format in qcow2 vmdk raw; do
          "$2" "$3" convert $letter -f raw -O $format a.raw b.$format; sync
          "$2" "$3" compare -q -f raw -F $format a.raw b.$format
        done
      done
      # Zeros were looked for: they are holes in the last one.
      echo $(( (before - $(stat -f -c %f .)) * $(stat -f -c %S .) )) $(( $(stat -c %b b.raw) * 512 ))`;
    const [taken, held] = said(script).split(' ').map(Number);
    expect(taken).to.be.within(0, 4 * MIB);
    expect(held).to.be.within(27 * MIB, 28 * MIB + 65_536);
  });

  it('writes large pieces past the page cache where much is written, and leaves a full disk as it was: ext4', function () {
    skipBecause(this, noLoopDevices() ?? (hasTool('fincore') ? undefined : 'fincore is not installed'));
    emptyDisk('ext4', 480 * MIB);
    const script = `
      mke2fs -q -t ext4 "$1/ext4" && mount -o loop "$1/ext4" "$1/mnt" && cd "$1" || exit
      # Large pieces, small ones and an end that is no whole page.
      head -c 40M /dev/urandom > part; cat part part part part > a.raw; head -c 4609 /dev/urandom >> a.raw
      dd if=/dev/zero of=a.raw bs=64K seek=100 count=9 conv=notrunc status=none
      for format in raw qcow2 vmdk; do
        "$2" "$3" convert -f raw -O $format a.raw mnt/b; "$2" "$3" compare -f raw -F $format a.raw mnt/b
        "$2" "$3" convert -f raw -O $format a.raw mnt/b; fincore -nbo RES mnt/b
      done
      cat a.raw a.raw > large.raw; cp mnt/b old
      "$2" "$3" convert -f raw -O raw large.raw mnt/b 2>&1; echo $?
      cmp mnt/b old && ls -A mnt`;
    const lines = said(script).trim().split('\n');
    for (const n of [0, 2, 4]) {
      expect(lines[n]).to.equal('Images are identical.');
      expect(Number(lines[n + 1])).to.be.below(132 * MIB);
    }
    expect(lines.slice(6)).to.deep.equal([
      'imgfs: cannot write mnt/b: no space left on device',
      '1',
      'b',
      'lost+found',
    ]);
  });

  it('sparse disks of 5 TiB at once', async () => {
    qemuImg('create', '-q', '-f', 'qcow2', out('huge'), '5T');
    qemuIo(out('huge'), ['write -P 5 3T 1M']);
    const start = performance.now();
    for (const format of ['raw', 'qcow2', 'qcow']) {
      expect((await convert('-O', format, out('huge'), out())).error).to.equal('');
      expect(difference(out('huge'), 'qcow2', out(), format)).to.equal(undefined);
      expect(hostBytes('disk')).to.be.below(4 * MIB);
      fs.rmSync(out());
    }
    expect(performance.now() - start).to.be.below(20_000);
    expect(qemuImgJson('info', '--output=json', out('huge'))).to.include({ 'virtual-size': 5 * 2 ** 40 });
  });
});
