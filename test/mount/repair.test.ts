/** A mount of an image whose last writer was killed: looking changes nothing, the first change repairs it. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { forEachAdapter } from '../support/adapters.js';
import { place } from '../support/place.js';
import { imgfs, run } from '../support/program.js';
import { needsTool, qemuBytes, qemuImg } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';

const MIB = 1024 * 1024;

function hash(file: string): string {
  return createHash('sha256').update(fs.readFileSync(file)).digest('hex');
}

forEachAdapter('an image left by a crash', (_adapter, option) => {
  needsTool('qemu-img', 'qemu-io');
  const here = place();

  /** What QEMU leaves when it is killed: clusters in use that count as free. */
  async function killed(): Promise<string> {
    const file = here.path('disk.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', file, '16M');
    const session = await QemuSession.open('-f', 'qcow2', file);
    await session.do('write -P 5 1M 3M', 'flush');
    await session.kill();
    expect(run('qemu-img', ['check', '-q', file]).code).to.equal(2);
    return file;
  }

  it('is mounted with one line, is not changed by looking, and is sound after the first write', async () => {
    const file = await killed();
    const before = hash(file);
    const at = here.mountpoint();
    const { code, stderr } = imgfs('mount', option, '--workers=2', file, at);
    expect({ code, stderr }).to.deep.equal({
      code: 0,
      stderr: `imgfs: warning: ${file}: its last writer did not finish; it is repaired before its first change\n`,
    });
    const view = path.join(at, 'disk.raw');
    const disk = fs.readFileSync(view);
    expect(disk.subarray(MIB, 4 * MIB).equals(Buffer.alloc(3 * MIB, 5))).to.equal(true);
    expect(hash(file)).to.equal(before);
    fs.writeFileSync(view, Buffer.alloc(MIB, 7), { flag: 'r+' });
    disk.fill(7, 0, MIB);
    expect(fs.readFileSync(view).equals(disk)).to.equal(true);
    expect(JSON.parse(fs.readFileSync(path.join(at, 'info.json'), 'utf8'))).to.include({ 'dirty-flag': false });
    expect(imgfs('umount', at).code).to.equal(0);
    qemuImg('check', '-q', file);
    expect(qemuBytes(file, '-f', 'qcow2').equals(disk)).to.equal(true);
  });

  it('is mounted read-only without a word, and left as it is', async () => {
    const file = await killed();
    const before = hash(file);
    const at = here.mountpoint();
    expect(imgfs('mount', option, '-r', file, at)).to.include({ code: 0, stderr: '' });
    fs.readFileSync(path.join(at, 'disk.raw'));
    expect(imgfs('umount', at).code).to.equal(0);
    expect(hash(file)).to.equal(before);
  });
});
