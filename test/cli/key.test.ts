import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { EncryptedQemu, openEncrypted, passwordFile } from '../support/encrypted.js';
import { needsTool } from '../support/qemu.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

const SIZE = '1M';

describe('imgfs key', () => {
  const directory = scratch();
  let [first, second, third] = ['', '', ''];

  before(() => {
    first = passwordFile(directory.path('first'), 'the first');
    second = passwordFile(directory.path('second'), 'das zweite, \u00f6ffne dich');
    third = passwordFile(directory.path('third'), 'the third');
  });

  const made = (format: 'luks' | 'qcow2'): string => {
    const file = directory.path(`disk.${format}`);
    const options = format === 'luks' ? 'iter-time=10' : 'encrypt.format=luks,encrypt.iter-time=10';
    const { code, stderr } = imgfs(['create', '-q', '-f', format, '-o', options, '--password-file', first, file, SIZE]);
    expect(code, stderr).to.equal(0);
    return file;
  };
  const add = (file: string, by: string, fresh: string, ...more: string[]) =>
    imgfs(['key', 'add', '--password-file', by, '--new-password-file', fresh, '--iter-time', '10', ...more, file]);

  for (const format of ['luks', 'qcow2'] as const) {
    describe(format, () => {
      needsTool('qemu-img', 'cryptsetup');

      it('adds passphrases that QEMU opens too, lists them, and removes them', () => {
        const file = made(format);
        expect(add(file, first, second).stderr).to.equal(`slot 1 opens ${file} now\n`);
        expect(add(file, second, third, '--slot', '7').stderr).to.equal(`slot 7 opens ${file} now\n`);
        const { stdout } = imgfs(['key', 'list', file]);
        expect(stdout.match(/in use/g)).to.have.length(3);
        expect(stdout).to.match(/^7 {2}in use/m);
        for (const secret of [second, third]) new EncryptedQemu(format, secret).io(file, 'read 0 512');
        const removed = imgfs(['key', 'remove', '--password-file', second, file]);
        expect(removed).to.deep.equal({ code: 0, stdout: '', stderr: `slot 1 of ${file} is free now\n` });
        expect(() => new EncryptedQemu(format, second).io(file, 'read 0 512')).to.throw(/Invalid password/);
        new EncryptedQemu(format, third).io(file, 'read 0 512');
        expect(imgfs(['key', 'remove', '--slot', '0', file]).code).to.equal(0);
        new EncryptedQemu(format, third).io(file, 'read 0 512');
        expect(imgfs(['check', file]).code).to.equal(0);
        if (format === 'luks') expect(spawnSync('cryptsetup', ['luksDump', file]).status).to.equal(0);
      });
    });
  }

  it('leaves nothing of what a removed slot held', () => {
    const file = made('luks');
    add(file, first, third);
    const before = fs.readFileSync(file);
    imgfs(['key', 'remove', '--slot', '1', file]);
    const after = fs.readFileSync(file);
    const at = 4096 + 258_048;
    expect(after.subarray(at, at + 256_000).equals(before.subarray(at, at + 256_000))).to.equal(false);
    for (let n = at; n < at + 256_000; n += 512) {
      expect(after.subarray(n, n + 512).equals(before.subarray(n, n + 512)), `sector at ${n}`).to.equal(false);
    }
    expect(() => openEncrypted(file, { passphrase: 'the third' })).to.throw(/wrong passphrase/);
    openEncrypted(file, { passphrase: 'the first' }).close();
  });

  it('refuses, in one line', () => {
    const file = made('luks');
    const plain = directory.path('plain.raw');
    fs.writeFileSync(plain, Buffer.alloc(4096));
    const bytes = fs.readFileSync(file);
    for (const [args, code, line] of [
      [['remove', '--slot', '0', file], 1, /slot 0 is the last of .*: add another first, or --force$/],
      [['remove', '--slot', '3', file], 1, /LUKS key slot 3 is not in use$/],
      [['remove', '--password-file', second, file], 1, /wrong passphrase$/],
      [['add', '--password-file', third, '--new-password-file', second, file], 1, /wrong passphrase$/],
      [['add', '--password-file', first, '--new-password-file', second, '--slot', '0', file], 1, /slot 0 is in use$/],
      [['add', '--password-file', first, file], 1, /no passphrase was given: add --new-password-file FILE$/],
      [['list', plain], 1, /is raw without LUKS key slots$/],
      [['change', file], 2, /"change" is no action/],
      [['list', '--slot', '8', file], 2, /"8" is no key slot/],
    ] as const) {
      const ran = imgfs(['key', ...args]);
      expect(ran.code, ran.stderr).to.equal(code);
      expect(ran.stderr.trimEnd()).to.match(/^imgfs: [^\n]+$/);
      expect(ran.stderr.trimEnd()).to.match(line);
    }
    expect(fs.readFileSync(file).equals(bytes)).to.equal(true);
  });
});
