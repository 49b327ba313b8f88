import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import type { GatePolicy } from '../../src/image/gate.js';
import { type OpenOptions, openImage } from '../../src/image/open.js';
import { failure, outcome } from '../support/outcome.js';
import { noLoopDevices, openDescriptors, skipBecause, withLoopDevice, withScratch } from '../support/scratch.js';
import { makePlace, type Place, PROTOCOL_NAMES, qcow2Naming, SECRET } from './corpus.js';

const FOLLOW: GatePolicy = { follow: true, allowed: [] };

/** Opens, reads the first sector and closes; the text read. Nothing may be left open, whatever happens. */
function look(file: string, references: OpenOptions['references'] = FOLLOW, format?: string): string {
  const before = openDescriptors();
  try {
    const { image } = openImage(file, { formats, format, references, forceShare: false, warn: () => {} });
    try {
      const into = Buffer.alloc(512);
      image.read(into, 0);
      return into.toString('latin1');
    } finally {
      image.close();
    }
  } finally {
    expect(openDescriptors()).to.deep.equal(before);
  }
}

function within(body: (place: Place) => void): void {
  withScratch('hostile', (directory) => body(makePlace(directory)));
}

function refused(file: string, references: OpenOptions['references'] = FOLLOW): void {
  const started = performance.now();
  expect(outcome(() => look(file, references))).to.equal('refused');
  expect(performance.now() - started).to.be.lessThan(2000);
}

describe('hostile: what an image names', () => {
  it('backing-absolute: outside is refused and the message says how to allow it; beneath is fine', () =>
    within(({ home, secret, backed, put }) => {
      for (const format of ['raw', 'qcow2', undefined]) refused(backed('a.qcow2', secret, format));
      const error = failure(() => look(backed('a.qcow2', secret, 'raw')));
      expect(error?.hint).to.include(`--allow-refs ${path.dirname(secret)}`);
      expect(look(path.join(home, 'a.qcow2'), { follow: true, allowed: [path.dirname(secret)] })).to.include(SECRET);
      const base = put('sub/base', Buffer.from('the base'));
      expect(look(backed('b.qcow2', base, 'raw'))).to.include('the base');
    }));

  it('backing-dotdot: no way up leads out', () =>
    within(({ backed, put }) => {
      for (const name of ['../secret', 'sub/../../secret', './sub/.././../secret', '../images/../secret']) {
        refused(backed('a.qcow2', name, 'raw'));
      }
      put('base', Buffer.from('the base'));
      expect(look(backed('b.qcow2', 'sub/../base', 'raw'))).to.include('the base');
      expect(look(backed('c.qcow2', '../images/base', 'raw'))).to.include('the base');
    }));

  it('backing-symlink: links are followed before they are judged', () =>
    within(({ home, secret, backed, put }) => {
      fs.symlinkSync(secret, path.join(home, 'out'));
      fs.symlinkSync('..', path.join(home, 'up'));
      fs.symlinkSync('out', path.join(home, 'twice'));
      fs.symlinkSync('loop', path.join(home, 'loop'));
      for (const name of ['out', 'up/secret', 'twice', path.join(home, 'out')]) refused(backed('a.qcow2', name, 'raw'));
      expect(outcome(() => look(backed('a.qcow2', 'loop', 'raw')))).to.equal('io');
      put('base', Buffer.from('the base'));
      fs.symlinkSync('base', path.join(home, 'in'));
      expect(look(backed('b.qcow2', 'in', 'raw'))).to.include('the base');
    }));

  it('backing-swapped: a directory exchanged for a link between the check and the open leads nowhere', () =>
    within(({ home, backed, put }) => {
      const [away, private_] = [`${home}-moved`, path.join(path.dirname(home), 'private')];
      fs.mkdirSync(private_);
      fs.writeFileSync(path.join(private_, 'base'), SECRET);
      put('base', Buffer.from('the base'));
      const file = backed('a.qcow2', 'base', 'raw');
      expect(look(file)).to.include('the base');
      const honest = fs.realpathSync;
      const swapping = (name: fs.PathLike): string => {
        const found = honest(name);
        if (found !== path.join(home, 'base')) return found;
        fs.renameSync(home, away);
        fs.symlinkSync(private_, home);
        return found;
      };
      fs.realpathSync = Object.assign(swapping, honest) as typeof fs.realpathSync;
      try {
        refused(file);
      } finally {
        fs.realpathSync = honest;
      }
      expect(fs.readlinkSync(home)).to.equal(private_);
    }));

  it('backing-symlink-image: an image reached by a link may name files beside the link or beside itself', () =>
    within(({ home, secret, backed, put }) => {
      const elsewhere = path.join(path.dirname(home), 'elsewhere');
      fs.mkdirSync(elsewhere);
      const link = path.join(elsewhere, 'link.qcow2');
      fs.symlinkSync(backed('a.qcow2', 'base', 'raw'), link);
      expect(outcome(() => look(link))).to.equal('missing');
      fs.writeFileSync(path.join(elsewhere, 'base'), 'beside the link');
      expect(look(link)).to.include('beside the link');
      fs.rmSync(path.join(elsewhere, 'base'));
      put('base', Buffer.from('beside the image'));
      expect(look(link)).to.include('beside the image');
      backed('a.qcow2', secret, 'raw');
      refused(link);
    }));

  it('backing-fifo: refused without waiting for a writer', () =>
    within(({ home, backed }) => {
      execFileSync('mkfifo', [path.join(home, 'fifo')]);
      refused(backed('a.qcow2', 'fifo', 'raw'));
      refused(path.join(home, 'fifo'));
    }));

  it('backing-device: character devices never, block devices only where the user named them', function () {
    skipBecause(this, noLoopDevices());
    within(({ home, backed, put }) => {
      for (const name of ['/dev/zero', '/dev/null', '/dev/tty']) refused(backed('a.qcow2', name, 'raw'));
      refused(backed('a.qcow2', '/dev/zero', 'raw'), { follow: true, allowed: ['/dev'] });
      const disk = put('disk', Buffer.alloc(4096, 'device '));
      withLoopDevice(disk, [], (device) => {
        const file = backed('a.qcow2', device, 'raw');
        refused(file);
        refused(file, { follow: true, allowed: ['/dev'] });
        expect(look(file, { follow: true, allowed: [device] })).to.include('device');
        fs.symlinkSync(device, path.join(home, 'device-link'));
        refused(backed('b.qcow2', 'device-link', 'raw'));
      });
    });
  });

  it('backing-proc: magic links lead nowhere', () =>
    within(({ home, backed }) => {
      for (const name of ['/proc/self/environ', '/proc/self/root/etc/passwd', '/proc/self/cwd', '/proc/self/fd/0']) {
        expect(outcome(() => look(backed('a.qcow2', name, 'raw')))).to.be.oneOf(['refused', 'missing']);
      }
      fs.symlinkSync('/proc/self/root', path.join(home, 'root'));
      refused(backed('a.qcow2', 'root/etc/passwd', 'raw'));
    }));

  it('backing-directory: refused', () =>
    within(({ backed }) => {
      for (const name of ['sub', '.', '/']) refused(backed('a.qcow2', name, 'raw'));
    }));

  for (const [test, names] of Object.entries(PROTOCOL_NAMES)) {
    it(`${test}: refused even where a file of that name exists and everything is allowed`, () =>
      within(({ home, backed, put }) => {
        for (const name of names) {
          if (!name.includes('/')) put(name, Buffer.from('a plain file'));
          const everything = { follow: true, allowed: ['/'] };
          refused(backed('a.qcow2', name, 'raw'), everything);
          refused(put('b.qcow2', qcow2Naming({ dataFile: { name, raw: true } })), everything);
          if (!name.includes('/')) expect(look(backed('c.qcow2', `./${name}`, 'raw'))).to.include('a plain file');
          if (!name.includes('/')) fs.rmSync(path.join(home, name));
        }
      }));
  }

  it('data-file-secret: a data file passes the same gate', () =>
    within(({ secret, put }) => {
      for (const raw of [true, false]) {
        for (const name of [secret, '../secret']) refused(put('a.qcow2', qcow2Naming({ dataFile: { name, raw } })));
      }
    }));

  it('no-refs: nothing is followed, not even beside the image', () =>
    within(({ backed, put }) => {
      put('base', Buffer.from('the base'));
      const off = { follow: false, allowed: ['/'] };
      refused(backed('a.qcow2', 'base', 'raw'), off);
      refused(put('b.qcow2', qcow2Naming({ dataFile: { name: 'base' } })), off);
    }));

  it('declared-format-unknown: the image is to blame, not the command line', () =>
    within(({ backed, put }) => {
      put('base', Buffer.from('the base'));
      for (const format of ['file', 'host_device', 'no such', '__proto__', 'constructor']) {
        expect(outcome(() => look(backed('a.qcow2', 'base', format)))).to.equal('unsupported');
      }
    }));

  it('declared-format-wrong: a file declared raw is raw, whatever it holds', () =>
    within(({ secret, backed }) => {
      backed('inner', secret, 'raw');
      expect(look(backed('a.qcow2', 'inner', 'raw'))).to.match(/^QFI/);
    }));

  it('chain-unformatted: a backing file named without its format may name nothing itself', () =>
    within(({ backed, put }) => {
      put('base', Buffer.from('the base'));
      backed('middle', 'base', 'raw');
      refused(backed('a.qcow2', 'middle'));
      expect(look(backed('b.qcow2', 'middle', 'qcow2'))).to.include('the base');
      expect(look(backed('c.qcow2', 'base'))).to.include('the base');
      put('data', qcow2Naming({ dataFile: { name: 'base', raw: true } }));
      refused(backed('d.qcow2', 'data'));
    }));

  it('probe-raw-turns-qcow2: what a guest writes into a raw disk never makes us follow it', () =>
    within(({ secret, backed, put }) => {
      const attack = qcow2Naming({ backing: { name: secret, format: 'raw' } });
      for (const name of ['disk.raw', 'disk.dd', 'DISK.RAW']) expect(look(put(name, attack))).to.match(/^QFI/);
      expect(look(put('disk.img', attack), FOLLOW, 'raw')).to.match(/^QFI/);
      refused(put('disk.img', attack));
      put('base', attack);
      expect(look(backed('a.qcow2', 'base', 'raw'))).to.match(/^QFI/);
      refused(backed('b.qcow2', 'base'));
    }));

  it('name-of-bytes: empty, over-long and undecodable names are one clear line', () =>
    within(({ home, put }) => {
      const build = (name: string): Uint8Array => qcow2Naming({ backing: { name, format: 'raw' } });
      const ends = ['missing', 'refused', 'io', 'done'];
      for (const name of ['x'.repeat(1000), 'a/'.repeat(500), '\u001b[2J', 'a\nb', '\ufffd', ' ', '%2e%2e/secret']) {
        expect(outcome(() => look(put('a.qcow2', build(name))))).to.be.oneOf(ends);
      }
      const bytes = Buffer.from(build('XXXX'));
      bytes.set([0xff, 0xfe, 0x80, 0x2f], bytes.indexOf('XXXX'));
      fs.writeFileSync(path.join(home, 'b.qcow2'), bytes);
      expect(outcome(() => look(path.join(home, 'b.qcow2')))).to.be.oneOf(ends);
    }));
});

describe('hostile: images that name each other', () => {
  it('self-backing: an image is not its own backing file, by any name', () =>
    within(({ home, backed }) => {
      for (const name of ['a.qcow2', './a.qcow2', 'sub/../a.qcow2', path.join(home, 'a.qcow2')]) {
        refused(backed('a.qcow2', name, 'qcow2'));
      }
      fs.symlinkSync('a.qcow2', path.join(home, 'link'));
      refused(backed('a.qcow2', 'link', 'qcow2'));
    }));

  it("two-cycle: nor its backing file's", () =>
    within(({ backed }) => {
      backed('a.qcow2', 'b.qcow2', 'qcow2');
      refused(backed('b.qcow2', 'a.qcow2', 'qcow2'));
    }));

  it('hard-link-cycle: nor under a second name', () =>
    within(({ home, backed }) => {
      fs.linkSync(backed('a.qcow2', 'b.qcow2', 'qcow2'), path.join(home, 'b.qcow2'));
      refused(path.join(home, 'a.qcow2'));
    }));

  it('data-file-self: nor its own data file', () =>
    within(({ put }) => {
      for (const raw of [true, false]) refused(put('a.qcow2', qcow2Naming({ dataFile: { name: 'a.qcow2', raw } })));
    }));

  it('chain-depth: 64 images are a chain, 65 are not', () =>
    within(({ home, backed, put }) => {
      put('0', Buffer.from('the base'));
      for (let n = 1; n <= 64; n++) backed(String(n), String(n - 1), n === 1 ? 'raw' : 'qcow2');
      expect(look(path.join(home, '63'))).to.include('the base');
      expect(outcome(() => look(path.join(home, '64')))).to.equal('limit');
    }));
});
