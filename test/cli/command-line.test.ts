import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { verbs } from '../../src/cli/verbs.js';
import { imgfs, MAIN, type Run } from '../support/imgfs.js';
import { needsTool } from '../support/qemu.js';
import { scratch } from '../support/scratch.js';
import { alternating, EXTENTS } from './long.js';

/** A preload that takes the native packages away. */
const WITHOUT_NATIVE = `
const Module = require('node:module');
const resolve = Module._resolveFilename;
Module._resolveFilename = function (name, ...rest) {
  if (/^(koffi|@koromix|fuse-native|fuse-shared-library)/.test(name)) throw new Error('no ' + name + ' here');
  return resolve.call(this, name, ...rest);
};
`;

/** One line on stderr that begins as ours do, nothing on stdout. */
function expectFailure(run: Run, code: number, line: RegExp): void {
  expect(run.stderr).to.match(/^imgfs: [^\n]*\n$/);
  expect(run.stderr).to.match(line);
  expect({ code: run.code, stdout: run.stdout }).to.deep.equal({ code, stdout: '' });
}

describe('the command line', function () {
  this.timeout(60_000);
  const directory = scratch();

  it('--version is that of the package', () => {
    const described = JSON.parse(fs.readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
      readonly version: string;
    };
    for (const option of ['--version', '-V']) {
      expect(imgfs([option])).to.deep.equal({ code: 0, stdout: `imgfs ${described.version}\n`, stderr: '' });
    }
  });

  it('--help names every verb, and every verb has help, without native packages', () => {
    fs.writeFileSync(directory.path('preload.cjs'), WITHOUT_NATIVE);
    const node = ['--require', directory.path('preload.cjs')];
    const { code, stdout, stderr } = imgfs(['--help'], { node });
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    for (const { name, summary } of verbs) {
      expect(stdout.replaceAll(/ +/g, ' ').split('\n')).to.include(` ${name} ${summary}`);
      const byWord = imgfs(['help', name], { node });
      expect(byWord).to.include({ code: 0, stderr: '' });
      expect(byWord.stdout).to.match(new RegExp(`^Usage: imgfs ${name} `));
      expect(imgfs([name, '--help'], { node })).to.deep.equal(byWord);
    }
  });

  it('info and map work without native packages, and say that locks are not checked', () => {
    fs.writeFileSync(directory.path('preload.cjs'), WITHOUT_NATIVE);
    fs.writeFileSync(directory.path('disk.raw'), Buffer.alloc(4096, 1));
    const node = ['--require', directory.path('preload.cjs')];
    for (const verb of ['info', 'map']) {
      const run = imgfs([verb, '--json', directory.path('disk.raw')], { node });
      expect(run.code).to.equal(0);
      expect(run.stderr).to.match(/^imgfs: warning: locks on [^\n]* are not checked: [^\n]*\n$/);
    }
  });

  describe('what it does not understand', () => {
    it('a verb that does not exist', () => {
      expectFailure(imgfs(['inof', 'disk.qcow2']), 1, /no verb is called "inof": did you mean "info"\?/);
      expectFailure(imgfs(['unmount', '/mnt']), 1, /did you mean "umount"\?/);
      expectFailure(imgfs(['frobnicate']), 1, /see imgfs --help/);
      expectFailure(imgfs(['help', 'mpa']), 1, /did you mean "map"\?/);
      expectFailure(imgfs([]), 1, /no verb given/);
    });

    it('an option: qemu-img verbs end with 1, others with 2', () => {
      expectFailure(imgfs(['info', '--jsno', 'x']), 1, /unknown option '--jsno': did you mean --json\?/);
      expectFailure(imgfs(['map', '--frob', 'x']), 1, /see imgfs help map/);
      expectFailure(imgfs(['formats', '--jsno']), 2, /did you mean --json\?/);
      expectFailure(imgfs(['mount', '--frob', 'a', 'b']), 2, /unknown option '--frob'/);
    });

    it('a value', () => {
      expectFailure(imgfs(['info', '--output=xml', 'x']), 1, /--output "xml" is unknown: human or json/);
      expectFailure(imgfs(['info', '-f', 'qcow3', MAIN]), 1, /unknown format "qcow3"/);
      expectFailure(imgfs(['map', '-s', '1x', 'x']), 1, /start offset "1x" is no size/);
      expectFailure(imgfs(['mount', '-o', 'snapshoot=1', 'a', 'b']), 2, /did you mean "snapshot"\?$/m);
    });

    it('too few or too many arguments', () => {
      expectFailure(imgfs(['info']), 1, /missing required argument 'image'/);
      expectFailure(imgfs(['info', 'a', 'b']), 1, /too many arguments/);
      expectFailure(imgfs(['formats', 'a']), 2, /too many arguments/);
    });
  });

  it('fails with 1 for an image that is not there or is none', () => {
    expectFailure(imgfs(['info', directory.path('gone')]), 1, /no such file/);
    expectFailure(imgfs(['map', directory.path('.')]), 1, /is a directory/);
    fs.writeFileSync(directory.path('x.vhdx'), 'vhdxfile');
    expectFailure(imgfs(['info', directory.path('x.vhdx')]), 1, /Hyper-V disk \(vhdx\)/);
  });

  describe('called as mount(8) calls it', () => {
    it('an image and a mountpoint are a mount: 1 usage, 32 failure', () => {
      const gone = directory.path('gone.qcow2');
      expectFailure(imgfs([gone, directory.path('.'), '-o', 'rw,dev,suid']), 32, /no such file/);
      expectFailure(imgfs(['gone.qcow2', '/mnt']), 32, /no such file/);
      expectFailure(imgfs([gone]), 1, /mount needs an image and a mountpoint/);
      expectFailure(imgfs([gone, '/mnt', '--frob']), 1, /unknown option '--frob'/);
      expectFailure(imgfs(['-o', 'snapshoot=1', gone, '/mnt']), 1, /unknown mount option "snapshoot"/);
    });

    it('a file in the way of a misspelt verb is an image', () => {
      fs.writeFileSync(directory.path('disk'), 'x');
      expectFailure(imgfs(['disk'], { cwd: directory.path('.') }), 1, /mount needs an image and a mountpoint/);
    });

    for (const name of ['mount.imgfs', 'mount.fuse.imgfs']) {
      it(`as ${name}, whatever the first argument is`, () => {
        const main = directory.path(name);
        fs.symlinkSync(MAIN, main);
        expectFailure(imgfs(['info', '/mnt', '-o', 'ro'], { main, cwd: directory.path('.') }), 32, /no such file/);
        expectFailure(imgfs([], { main }), 1, /imgfs: /);
        expect(imgfs(['-sfnv', '-t', 'fuse.imgfs', 'a', '/mnt', '-o', 'rw'], { main })).to.include({
          code: 0,
          stderr: '',
        });
      });
    }
  });

  describe('an error of its own', () => {
    const broken = `require('node:fs').fstatSync = () => { throw new TypeError('a bug\\nin two lines'); };`;

    it('is one line, and the stack only for who asks', () => {
      fs.writeFileSync(directory.path('broken.cjs'), broken);
      fs.writeFileSync(directory.path('disk.raw'), 'x');
      const node = ['--require', directory.path('broken.cjs')];
      const args = ['info', directory.path('disk.raw')];
      expectFailure(imgfs(args, { node }), 1, /^imgfs: internal error: a bug\\x0ain two lines$/m);
      const { code, stderr } = imgfs(args, { node, env: { IMGFS_DEBUG: '1' } });
      expect(code).to.equal(1);
      expect(stderr).to.match(/^imgfs: internal error: [^\n]*\n(.|\n)* {4}at /);
    });
  });

  describe('its output', () => {
    needsTool('qemu-img', 'qemu-io');
    before(() => alternating(directory.path('long.qcow2')));

    it('streams: half a million extents in a small heap', () => {
      const out = directory.path('map.json');
      const fd = fs.openSync(out, 'w');
      const args = ['--max-old-space-size=24', MAIN, 'map', '--json', directory.path('long.qcow2')];
      const { status, stderr } = spawnSync(process.execPath, args, { stdio: ['ignore', fd, 'pipe'] });
      fs.closeSync(fd);
      expect({ status, stderr: stderr.toString() }).to.deep.equal({ status: 0, stderr: '' });
      expect((JSON.parse(fs.readFileSync(out, 'utf8')) as unknown[]).length).to.equal(EXTENTS);
      fs.rmSync(out);
    });

    it('ends quietly when its reader leaves', async () => {
      const child = spawn(process.execPath, [MAIN, 'map', '--json', directory.path('long.qcow2')]);
      const ended = new Promise((resolve) => child.once('close', resolve));
      let complaints = '';
      child.stderr.on('data', (piece: Buffer) => {
        complaints += piece.toString();
      });
      child.stdout.once('data', () => child.stdout.destroy());
      expect(await ended).to.equal(0);
      expect(complaints).to.equal('');
    });

    it('ends quietly in a pipeline', () => {
      const line = `"${process.execPath}" "${MAIN}" map --json "${directory.path('long.qcow2')}" | head -n 1`;
      const { status, stdout, stderr } = spawnSync('bash', ['-o', 'pipefail', '-c', line], { encoding: 'utf8' });
      expect({ status, stderr }).to.deep.equal({ status: 0, stderr: '' });
      expect(stdout).to.match(/^\[\{ "start": 0, [^\n]*\},\n$/);
    });

    it('fails where it cannot be written', () => {
      const full = fs.openSync('/dev/full', 'w');
      const { status, stderr } = spawnSync(process.execPath, [MAIN, 'formats'], { stdio: ['ignore', full, 'pipe'] });
      fs.closeSync(full);
      expect(status).to.equal(1);
      expect(stderr.toString()).to.equal('imgfs: cannot write the output: no space left on device\n');
    });

    describe('to a slow reader', () => {
      needsTool('perl');

      it('waits, though somebody made the pipe non-blocking', () => {
        const nonBlocking = "perl -MFcntl -e 'fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK) or die'";
        const map = `"${process.execPath}" "${MAIN}" map --json "${directory.path('long.qcow2')}"`;
        const line = `{ ${nonBlocking}; ${map}; } | { sleep 0.5; wc -l; }`;
        const { stdout, stderr } = spawnSync('bash', ['-c', line], { encoding: 'utf8' });
        expect({ lines: Number(stdout), stderr }).to.deep.equal({ lines: EXTENTS, stderr: '' });
      });
    });
  });
});
