/** Encrypted images in real mounts: where a passphrase may come from, and that it is nowhere afterwards. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { mountObstacle, place, unless } from '../support/place.js';
import { IMGFS, imgfs, must, type Ran, run } from '../support/program.js';
import { Random } from '../support/seed.js';

const SIZE = 2 * 1024 * 1024;

describe('imgfs mount of an encrypted image', () => {
  unless(mountObstacle());
  const here = place();
  const passphrase = `pass-${randomBytes(16).toString('hex')}`;
  let image = '';
  let secret = '';

  before(() => {
    secret = here.file('secret', Buffer.from(`${passphrase}\n`));
    image = here.path('disk.luks');
    const options = ['-o', 'iter-time=10', '--password-file', secret];
    must(process.execPath, IMGFS, 'create', '-q', '-f', 'luks', ...options, image, String(SIZE));
  });

  const withInput = (input: string, ...args: readonly string[]): Ran =>
    run(process.execPath, [IMGFS, ...args], { input });

  it('is written and read again; the passphrase from a file, from standard input, by the name of the image', () => {
    const bytes = new Random().bytes(300_000);
    const ways: readonly (readonly [what: string, mount: (at: string) => Ran])[] = [
      ['a file', (at) => imgfs('mount', '--password-file', secret, image, at)],
      ['standard input', (at) => withInput(passphrase, 'mount', '--password-file', '-', image, at)],
      ['an option', (at) => imgfs('mount', '-o', `password-file=${secret}`, image, at)],
      [
        'its name',
        (at) => imgfs('mount', '--password-file', '/nowhere', '--password-file', `disk=${secret}`, image, at),
      ],
    ];
    for (const [n, [what, mount]] of ways.entries()) {
      const at = here.mountpoint();
      const { code, stderr } = mount(at);
      expect(code, `${what}: ${stderr}`).to.equal(0);
      const disk = path.join(at, 'disk.raw');
      if (n > 0)
        expect(
          fs
            .readFileSync(disk)
            .subarray(777, 777 + bytes.length)
            .equals(bytes),
          what,
        ).to.equal(true);
      const fd = fs.openSync(disk, 'r+');
      fs.writeSync(fd, bytes, 0, bytes.length, 777);
      fs.closeSync(fd);
      expect(imgfs('umount', at).code).to.equal(0);
    }
    expect(fs.readFileSync(image).includes(bytes.subarray(0, 64)), 'in plain in the file').to.equal(false);
  });

  it('a wrong passphrase, or none: one line, status 1, nothing mounted', () => {
    const wrong = here.file('wrong', Buffer.from('another\n'));
    const at = here.mountpoint();
    const expected = { code: 1, stdout: '', stderr: `imgfs: ${fs.realpathSync(image)}: wrong passphrase\n` };
    expect(imgfs('mount', '--password-file', wrong, image, at)).to.deep.equal(expected);
    const missing = imgfs('mount', '--password-file', '/nowhere', image, at);
    expect(missing).to.deep.equal({
      ...{ code: 1, stdout: '' },
      stderr: 'imgfs: cannot read the passphrase in /nowhere: no such file\n',
    });
    const empty = withInput('\n', 'mount', '--password-file', '-', image, at);
    expect(empty).to.deep.equal({
      ...{ code: 1, stdout: '' },
      stderr: 'imgfs: the passphrase in standard input is empty\n',
    });
    expect(fs.readdirSync(at)).to.deep.equal([]);
  });

  it('passphrase-nowhere: no memory, command line, environment, log or view of the serving process holds it', () => {
    const at = here.mountpoint();
    const token = `token-${randomBytes(16).toString('hex')}`;
    const { code, stderr } = run(process.execPath, [IMGFS, 'mount', '--password-file', secret, image, at], {
      env: { IMGFS_TEST_TOKEN: token },
    });
    expect(code, stderr).to.equal(0);
    must('dd', `if=${at}/disk.raw`, 'of=/dev/null', 'bs=64k', 'status=none');
    const { pid, log } = here.record(at);
    expect(found(pid, token), 'the control').to.be.greaterThan(0);
    expect(found(pid, passphrase)).to.equal(0);
    for (const file of ['cmdline', 'environ']) {
      expect(fs.readFileSync(`/proc/${pid}/${file}`).includes(passphrase), file).to.equal(false);
    }
    expect(fs.readFileSync(path.join(at, 'info.json')).includes(passphrase)).to.equal(false);
    if (log !== undefined && fs.existsSync(log)) {
      expect(fs.readFileSync(log).includes(passphrase)).to.equal(false);
    }
    expect(imgfs('umount', at).code).to.equal(0);
  });
});

/** How often a text stands in the readable memory of a process, as bytes or as a string of 16-bit units. */
function found(pid: number, text: string): number {
  const needles = [Buffer.from(text), Buffer.from(text, 'utf16le')];
  const memory = fs.openSync(`/proc/${pid}/mem`, 'r');
  let count = 0;
  try {
    for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
      const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line) ?? [];
      if (from === '' || line.endsWith('[vvar]') || line.endsWith('[vsyscall]')) continue;
      const piece = Buffer.alloc(8 * 1024 * 1024);
      const end = BigInt(`0x${to}`);
      for (let at = BigInt(`0x${from}`); at < end; at += BigInt(piece.length - 128)) {
        const length = Number(end - at < BigInt(piece.length) ? end - at : BigInt(piece.length));
        const got = readMemory(memory, piece.subarray(0, length), at);
        for (const needle of needles) if (piece.subarray(0, got).includes(needle)) count++;
      }
    }
  } finally {
    fs.closeSync(memory);
  }
  return count;
}

/** Reserved ranges have nothing to read. */
function readMemory(memory: number, into: Buffer, at: bigint): number {
  try {
    return fs.readSync(memory, into, 0, into.length, at);
  } catch {
    return 0;
  }
}
