import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { Command } from 'commander';
import { verb } from '../../src/cli/create.js';
import { formats } from '../../src/formats/index.js';
import { errorLine } from '../../src/lib/errors.js';
import { imgfs, MAIN } from '../support/imgfs.js';
import { withoutFfi } from '../support/no-ffi.js';
import { needsTool, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { noLoopDevices, scratch, skipBecause, withLoopDevice } from '../support/scratch.js';
import { LINES, NOT_IN_QEMU } from './create-lines.js';

const MIB = 2 ** 20;

/** The verb in this process, quiet: a hundred command lines would else be a hundred starts of node. */
function create(args: readonly string[]): { readonly code: number; readonly error: string } {
  try {
    const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
    verb.declare(command, 'verb');
    command.parse(['-q', ...args], { from: 'user' });
    return { code: Number(verb.run(command, 'verb')), error: '' };
  } catch (error) {
    return { code: 1, error: errorLine(error) };
  }
}

/** What qemu-img tells of it, but for what no two images have in common. */
function properties(file: string, format: string, cwd: string): unknown {
  const told = spawnSync('qemu-img', ['info', '--output=json', '-f', format, file], { cwd, encoding: 'utf8' });
  if (told.status !== 0) throw new Error(told.stderr);
  const differs = new Set(['actual-size', 'cid', 'parent-cid']);
  return JSON.parse(told.stdout, (key, value: unknown) => (differs.has(key) ? undefined : value));
}

interface Run {
  readonly start: number;
  length: number;
}

/** What qemu-img says of every byte, but for where it lies: neighbours that differ in nothing else are one run. */
function map(file: string, format: string, cwd: string): readonly Run[] {
  const told = spawnSync('qemu-img', ['map', '--output=json', '-f', format, file], { cwd, encoding: 'utf8' });
  if (told.status !== 0) throw new Error(told.stderr);
  const runs = JSON.parse(told.stdout, (key, value: unknown) => (key === 'offset' ? undefined : value)) as Run[];
  const joined: Run[] = [];
  const kind = (run: Run | undefined): string => JSON.stringify({ ...run, start: 0, length: 0 });
  for (const run of runs) {
    const last = joined.at(-1);
    if (last !== undefined && kind(last) === kind(run)) last.length += run.length;
    else joined.push(run);
  }
  return joined;
}

describe('imgfs create', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);
  const home = process.cwd();

  const bases = new Map<string, Buffer>();

  before(() => {
    for (const [name, format, size] of [
      ['base.qcow2', 'qcow2', '3M'],
      ['base.vmdk', 'vmdk', '2M'],
    ] as const) {
      qemuImg('create', '-q', '-f', format, at(name), size);
      bases.set(name, fs.readFileSync(at(name)));
    }
    bases.set('base.raw', Buffer.alloc(2 * MIB, 1));
  });

  beforeEach(() => {
    for (const side of ['ours', 'theirs']) {
      fs.mkdirSync(at(`${side}/sub`), { recursive: true });
      for (const [name, bytes] of bases) fs.writeFileSync(at(`${side}/${name}`), bytes);
    }
    process.chdir(at('ours'));
  });

  afterEach(() => {
    process.chdir(home);
    for (const name of fs.readdirSync(at('.'))) fs.rmSync(at(name), { recursive: true });
  });

  const names = (side = 'ours'): string[] => fs.readdirSync(at(side), { recursive: true }).map(String).sort();

  for (const format of formats) {
    if (format.kind !== 'image' || format.creation === undefined) continue;
    const lines = LINES[format.name];

    describe(`${format.name}, beside qemu-img`, () => {
      const why = NOT_IN_QEMU[format.name];
      it(why === undefined ? 'is compared' : `is not compared: ${why}`, () => {
        expect(lines?.length ?? 0).to.satisfy((count: number) => count > 0 === (why === undefined));
      });
      for (const line of lines ?? []) it(`-f ${format.name} ${line}`, () => same(format.name, line.split(' ')));
    });
  }

  function same(format: string, words: readonly string[]): void {
    const args = ['-f', format, ...words.filter((word) => word !== '')];
    const there = names();
    const theirs = spawnSync('qemu-img', ['create', ...args], { cwd: at('theirs'), encoding: 'utf8' });
    const help = args.includes('help');
    const ours = help ? imgfs(['create', ...args]) : create(args);
    expect(ours.code, JSON.stringify([ours, theirs.stderr])).to.equal(theirs.status);
    if (ours.code !== 0) {
      expect('error' in ours && ours.error).to.match(/^imgfs: [^\n]+$/);
      expect(names()).to.deep.equal(there);
      return;
    }
    if (help) return;
    expect(names()).to.deep.equal(names('theirs'));
    const file = args.find((word) => /^(?:sub\/)?disk/.test(word)) ?? '';
    const cwds = [at('ours'), at('theirs')] as const;
    const [mine, other] = cwds.map((cwd) => properties(file, format, cwd));
    expect(mine).to.deep.equal(other);
    const flat = words.join().includes('Flat');
    const hasTables = (name: string): boolean => (name === file ? format !== 'raw' : format === 'vmdk' && !flat);
    // What lies below is missing where it was not to be opened. Flat disks are compared by their blocks; where clusters
    // are smaller than the host's, the holes of the host depend on which of them lie together.
    const whole = !args.includes('-u');
    if (whole && format !== 'raw' && !flat && !words.join().includes('cluster_size=512')) {
      const [myMap, otherMap] = cwds.map((cwd) => map(file, format, cwd));
      expect(myMap).to.deep.equal(otherMap);
    }
    for (const name of names()) if (!there.includes(name)) sameFile(name, hasTables(name));
    if (!whole) return;
    expect(check(file, format)).to.equal(0);
    // Streams are written once, in whole grains.
    const written = sizeOf(mine) > 0 && !words.join().includes('streamOptimized');
    if (written) qemuIo(file, ['write -P 7 0 512', 'read -P 7 0 512'], ['-f', format]);
    expect(check(file, format)).to.equal(0);
  }

  /** The same mode; for files of nothing but data also the same length, and space on the host. */
  function sameFile(name: string, tables: boolean): void {
    const [mine, other] = [fs.statSync(at(`ours/${name}`)), fs.statSync(at(`theirs/${name}`))];
    expect(mine.mode).to.equal(other.mode);
    if (tables) return;
    expect(mine.size).to.equal(other.size);
    // qemu-img stores a first block of zeros, so that it can find out what direct I/O needs.
    expect(mine.blocks).to.be.within(other.blocks - 8, other.blocks);
  }

  const sizeOf = (told: unknown): number => Number((told as Record<string, unknown>)['virtual-size']);

  /** 0, also where the format has no check. */
  function check(file: string, format: string): number | null {
    const { status } = spawnSync('qemu-img', ['check', '-q', '-f', format, file], { cwd: at('ours') });
    return status === 63 ? 0 : status;
  }

  describe('says', () => {
    it('what it made, or nothing with -q', () => {
      expect(
        imgfs(['create', '-f', 'qcow2', '-o', 'cluster_size=4k', 'disk', '1M'], { cwd: at('ours') }),
      ).to.deep.equal({
        code: 0,
        stdout:
          "Formatting 'disk', fmt=qcow2 size=1048576 cluster_size=4096 extended_l2=off preallocation=off " +
          'compression_type=zlib compat=1.1 data_file_raw=off lazy_refcounts=off refcount_bits=16\n',
        stderr: '',
      });
      expect(imgfs(['create', '-q', 'disk', '1M'], { cwd: at('ours') })).to.deep.equal({
        code: 0,
        stdout: '',
        stderr: '',
      });
    });

    it('every option of qemu-img in the list of options', () => {
      for (const format of formats) {
        if (format.kind !== 'image' || format.creation === undefined || LINES[format.name] === undefined) continue;
        const { stdout } = imgfs(['create', '-f', format.name, '-o', 'help']);
        const theirs = qemuImg('create', '-f', format.name, '-o', 'help').matchAll(/^ {2}([\w.-]+)=/gm);
        for (const [, name] of theirs) expect(stdout).to.match(new RegExp(`^  ${name}[= ]`, 'm'));
      }
    });

    it('why not, in a line that names the option', () => {
      for (const [args, error] of [
        [['-f', 'qcow2', '-o', 'clustersize=4k', 'disk', '1M'], 'did you mean "cluster_size"?'],
        [
          ['-f', 'qcow2', '-o', 'encrypt.format=luks', 'disk', '1M'],
          'disk shall be encrypted, and no passphrase was given: add --password-file FILE',
        ],
        [['-f', 'qcow2', '-o', 'compat=3', 'disk', '1M'], 'it is 0.10, v2, 1.1, v3'],
        [['-f', 'bochs', 'disk', '1M'], 'bochs images cannot be made yet: imgfs makes raw, '],
        [['-f', 'qcow2', '-b', 'base.qcow2', 'disk'], 'say it with -F'],
        [['-f', 'qcow2', '-b', 'nbd://host/disk', '-F', 'raw', 'disk'], 'is not a plain file'],
        [['disk'], 'a new image needs a size'],
      ] as const) {
        expect(create(args).error).to.include(error);
      }
      expect(names()).to.deep.equal([...bases.keys(), 'sub'].sort());
    });
  });

  it('takes the passphrase of an encrypted image as qemu-img does, and makes the same qcow of it', () => {
    fs.writeFileSync('secret', 'an open sesame');
    const options = ['-f', 'qcow', '--object', 'secret,id=s,file=secret'];
    const encrypted = [...options, '-o', 'encrypt.format=aes,encrypt.key-secret=s'];
    expect(create([...encrypted, 'disk', '3M'])).to.deep.equal({ code: 0, error: '' });
    qemuImg('create', '-q', ...encrypted, 'by-qemu', '3M');
    expect(fs.readFileSync('disk').equals(fs.readFileSync('by-qemu'))).to.equal(true);
    const luks = create([...options, '-o', 'encrypt.format=luks,encrypt.key-secret=s', 'disk', '3M']);
    expect(luks.error).to.match(/^imgfs: option encrypt\.format cannot be "luks": it is aes$/m);
    const unknown = create([...options, '-o', 'encrypt.format=aes,encrypt.key-secret=t', 'disk', '3M']);
    expect(unknown.error).to.include('no --object secret has the id "t"');
  });

  describe('what was there', () => {
    it('is replaced: its mode and owner, and a link to it, stay', () => {
      fs.writeFileSync('disk', 'old', { mode: 0o640 });
      if (process.getuid?.() === 0) fs.chownSync('disk', 1234, 2345);
      fs.symlinkSync('../disk', 'sub/link');
      const { uid, gid, ino } = fs.statSync('disk');
      expect(create(['-f', 'qcow2', 'sub/link', '1M']).code).to.equal(0);
      expect(fs.lstatSync('sub/link').isSymbolicLink()).to.equal(true);
      expect(fs.statSync('disk')).to.include({ uid, gid, mode: 0o100640 });
      expect(fs.statSync('disk').ino).not.to.equal(ino);
      expect(sizeOf(properties('disk', 'qcow2', '.'))).to.equal(MIB);
      expect(names()).to.deep.equal([...bases.keys(), 'disk', 'sub', 'sub/link'].sort());
    });

    it('is made behind a link that leads nowhere yet', () => {
      fs.symlinkSync('../disk', 'sub/link');
      expect(create(['-f', 'qcow2', 'sub/link', '1M']).code).to.equal(0);
      expect(fs.statSync('disk').isFile()).to.equal(true);
    });

    it('stays when the new image is refused, or below it', () => {
      qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', at('ours/top'));
      const bytes = fs.readFileSync('base.qcow2');
      expect(create(['-f', 'qcow2', '-o', 'compat=0.10,lazy_refcounts=on', 'base.qcow2', '1M']).code).to.equal(1);
      expect(create(['-f', 'qcow2', '-b', 'top', '-F', 'qcow2', 'base.qcow2']).error).to.include(
        'would lie above itself',
      );
      fs.linkSync('base.qcow2', 'other-name');
      expect(create(['-f', 'qcow2', '-b', 'top', '-F', 'qcow2', 'other-name']).error).to.include(
        'would lie above itself',
      );
      expect(fs.readFileSync('base.qcow2').equals(bytes)).to.equal(true);
    });

    it('stays when somebody uses it', async () => {
      const bytes = fs.readFileSync('base.qcow2');
      for (const options of [[], ['-r']]) {
        const session = await QemuSession.open(...options, '-f', 'qcow2', 'base.qcow2');
        try {
          expect(create(['-f', 'qcow2', 'base.qcow2', '1M']).error).to.include(
            `in use by qemu-io (pid ${session.pid})`,
          );
        } finally {
          await session.close();
        }
      }
      expect(fs.readFileSync('base.qcow2').equals(bytes)).to.equal(true);
    });

    it('stays when it is no disk', () => {
      spawnSync('mkfifo', ['fifo']);
      expect(create(['-f', 'qcow2', 'sub', '1M']).code).to.equal(1);
      expect(create(['-f', 'qcow2', 'fifo', '1M']).error).to.include('neither a regular file nor a block device');
      expect(names()).to.include('fifo');
    });

    it('is not taken for a data file, unless it is that of the image replaced', () => {
      fs.writeFileSync('data', 'precious');
      expect(create(['-f', 'qcow2', '-o', 'data_file=data', 'disk', '1M']).error).to.include('is there already');
      expect(fs.readFileSync('data', 'utf8')).to.equal('precious');
      fs.rmSync('data');
      for (const size of ['1M', '2M']) {
        expect(create(['-f', 'qcow2', '-o', 'data_file=data', 'disk', size]).code).to.equal(0);
      }
      expect(fs.statSync('data').size).to.equal(2 * MIB);
      expect(create(['-f', 'qcow2', '-o', 'data_file=disk', 'disk', '1M']).error).to.include('part of itself');
    });
  });

  describe('extents', () => {
    const disk = (subformat: string, size: string): ReturnType<typeof create> =>
      create(['-f', 'vmdk', '-o', `subformat=${subformat}`, 'disk.vmdk', size]);
    const extents = (): readonly string[] => names().filter((name) => name.startsWith('disk-'));

    it('are replaced with the image they belong to, as many as are needed', () => {
      expect(disk('twoGbMaxExtentSparse', '5G').code).to.equal(0);
      qemuIo('disk.vmdk', ['write -P 9 0 64k', 'write -P 9 3G 64k'], ['-f', 'vmdk']);
      expect(disk('twoGbMaxExtentSparse', '3G').code).to.equal(0);
      qemuIo('disk.vmdk', ['read -P 0 0 64k', 'read -P 0 2G 64k'], ['-f', 'vmdk']);
      expect(extents()).to.deep.equal([1, 2, 3].map((n) => `disk-s00${n}.vmdk`));
    });

    it('of something else stay, and nothing is made', () => {
      fs.writeFileSync('disk-s002.vmdk', 'precious');
      expect(disk('twoGbMaxExtentSparse', '5G').error).to.include('disk-s002.vmdk is there already');
      expect([...extents(), fs.existsSync('disk.vmdk')]).to.deep.equal(['disk-s002.vmdk', false]);
      expect(fs.readFileSync('disk-s002.vmdk', 'utf8')).to.equal('precious');
    });

    it('stay, with their image, while somebody uses one', async () => {
      expect(disk('monolithicFlat', '1M').code).to.equal(0);
      const session = await QemuSession.open('-f', 'raw', 'disk-flat.vmdk');
      try {
        expect(disk('monolithicFlat', '2M').error).to.include('disk-flat.vmdk is in use by qemu-io');
      } finally {
        await session.close();
      }
      expect(sizeOf(properties('disk.vmdk', 'vmdk', '.'))).to.equal(MIB);
    });
  });

  describe('the image below', () => {
    it('is opened as a mount would open it: what it names in turn passes the gate', () => {
      fs.mkdirSync('inner');
      qemuImg('create', '-q', '-f', 'qcow2', '-b', at('ours/base.qcow2'), '-F', 'qcow2', 'inner/middle');
      const args = ['-f', 'qcow2', '-b', 'inner/middle', '-F', 'qcow2', 'top'];
      expect(create(args).error).to.include('--allow-refs');
      expect(create(['--allow-refs', '.', ...args]).code).to.equal(0);
      expect(create(['--no-refs', ...args]).error).to.include('switched off');
      expect(create(['-u', ...args, '1M']).code).to.equal(0);
    });

    it('is not opened while somebody writes it, but for -u', async () => {
      const session = await QemuSession.open('-f', 'qcow2', 'base.qcow2');
      const args = ['-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', 'top', '1M'];
      try {
        expect(create(args).error).to.include('with -u and a size it is not opened');
        expect(create(['-u', ...args]).code).to.equal(0);
      } finally {
        await session.close();
      }
    });
  });

  it('leaves nothing behind when it is killed', async () => {
    const there = names();
    for (const [delay, signal] of [
      [0, 'SIGINT'],
      [30, 'SIGKILL'],
      [100, 'SIGTERM'],
      [200, 'SIGKILL'],
    ] as const) {
      const args = ['-f', 'qcow2', '-o', 'preallocation=full,data_file=data', 'disk', '20G'];
      const child = spawn(process.execPath, [MAIN, 'create', ...args], { cwd: at('ours'), stdio: 'ignore' });
      const ended = new Promise<string | null>((resolve) => child.once('exit', (_, how) => resolve(how)));
      while (!writes(child.pid ?? 0)) await new Promise((resolve) => setTimeout(resolve, 5));
      await new Promise((resolve) => setTimeout(resolve, delay));
      child.kill(signal);
      expect(await ended).to.equal(signal);
      expect(names()).to.deep.equal(there);
    }
  });

  /** Whether a process has a file without a name open. */
  function writes(pid: number): boolean {
    const open = fs.readdirSync(`/proc/${pid}/fd`);
    return open.some((fd) => {
      try {
        const link = fs.readlinkSync(`/proc/${pid}/fd/${fd}`);
        return link.startsWith(at('ours')) && link.endsWith(' (deleted)');
      } catch {
        return false;
      }
    });
  }

  it('leaves nothing behind when the host is full', () => {
    const there = names();
    const limited = `ulimit -f 1000; trap '' XFSZ; exec "$0" "$1" create -f qcow2 -o preallocation=full disk 10M`;
    const { status, stderr } = spawnSync('bash', ['-c', limited, process.execPath, MAIN], {
      cwd: at('ours'),
      encoding: 'utf8',
    });
    expect(status).to.equal(1);
    expect(stderr).to.match(/^imgfs: [^\n]+\n$/);
    expect(names()).to.deep.equal(there);
  });

  it('does without the FFI what needs no lock, by way of a hidden name', () => {
    const there = names();
    const file = (name: string, text: string | Uint8Array): string => {
      fs.writeFileSync(at(name), text);
      return at(name);
    };
    const options = { cwd: at('ours'), env: withoutFfi({ file }) };
    expect(imgfs(['create', '-q', '-f', 'qcow2', 'disk', '1M'], options)).to.include({ code: 0, stderr: '' });
    expect(names()).to.deep.equal([...there, 'disk'].sort());
    expect(fs.statSync('disk').mode).to.equal(fs.statSync('base.raw').mode);
    qemuImg('check', '-q', 'disk');
    const again = imgfs(['create', '-q', '-f', 'qcow2', 'disk', '2M'], options);
    expect(again.stderr).to.include('cannot be locked against other writers');
    const wrong = ['create', '-q', '-f', 'qcow2', '-o', 'refcount_bits=3', 'other', '2M'];
    expect(imgfs(wrong, options).code).to.equal(1);
    expect(names()).to.deep.equal([...there, 'disk'].sort());
  });

  it('overwrites a block device where it is', function () {
    skipBecause(this, noLoopDevices());
    fs.writeFileSync('medium', Buffer.alloc(4 * MIB, 0xee));
    withLoopDevice('medium', [], (device) => {
      expect(create(['-f', 'qcow2', device, '64M'])).to.deep.equal({ code: 0, error: '' });
      expect(sizeOf(qemuImgJson('info', '--output=json', '-f', 'qcow2', device))).to.equal(64 * MIB);
      qemuImg('check', '-q', '-f', 'qcow2', device);
      expect(create(['-f', 'raw', device, '5M']).error).to.include('are needed');
      expect(create(['-f', 'qcow2', '-o', 'data_file=data', device, '1M']).error).to.include('block device');
      expect(create(['-f', 'raw', device, '1M']).code).to.equal(0);
    });
    const bytes = fs.readFileSync('medium');
    expect(bytes.subarray(0, MIB).equals(Buffer.alloc(MIB))).to.equal(true);
    expect(bytes.subarray(-MIB).equals(Buffer.alloc(MIB, 0xee))).to.equal(true);
  });
});
