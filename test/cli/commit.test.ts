import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'chai';
import { MAIN } from '../support/imgfs.js';
import { needsTool, qemuBytes, qemuImg, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';
import { expectSame, runBeside } from './beside.js';

async function until(done: () => boolean): Promise<void> {
  while (!done()) await setTimeout(20);
}

/** QEMU shows a snapshot at the size the disk has today. */
function sizedAs(past: Buffer, shown: Buffer): Buffer {
  return shown.subarray(0, past.length);
}

describe('imgfs commit', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(`from/${name}`);

  beforeEach(() => {
    fs.rmSync(directory.path('.'), { recursive: true, force: true });
    fs.mkdirSync(directory.path('from'), { recursive: true });
    qemuImg('create', '-q', '-f', 'qcow2', at('base.qcow2'), '2M');
    qemuIo(at('base.qcow2'), ['write -P 1 0 1M', 'write -P 2 1920k 128k']);
    above('mid.qcow2', 'base.qcow2', '3M', 'write -P 3 512k 256k', 'write -z 0 128k');
    above('top.qcow2', 'mid.qcow2', '4M', 'write -P 4 640k 64k', 'write -z 64k 200k', 'write -P 5 3900k 100k');
  });

  function above(name: string, below: string, size: string, ...commands: readonly string[]): void {
    const format = (file: string): string => file.split('.').at(-1) ?? '';
    qemuImg('create', '-q', '-f', format(name), '-b', below, '-F', format(below), at(name), size);
    qemuIo(at(name), commands, ['-f', format(name)]);
  }

  const both = (...args: readonly string[]): ReturnType<typeof runBeside> =>
    runBeside(directory.path('from'), directory.path('.'), ['commit', ...args]);

  for (const [line, disks] of [
    ['top.qcow2', ['top.qcow2', 'mid.qcow2', 'base.qcow2']],
    ['-d top.qcow2', ['top.qcow2', 'mid.qcow2']],
    ['-b base.qcow2 top.qcow2', ['top.qcow2', 'base.qcow2']],
    ['base.qcow2', ['base.qcow2']],
    ['-b no.qcow2 top.qcow2', ['top.qcow2']],
  ] as const) {
    it(line, () => expectSame(both(...line.split(' ').filter((word) => word !== '')), disks));
  }

  it('qcow above raw: the file grows and the image gives its space back', () => {
    fs.writeFileSync(at('base.raw'), Buffer.alloc(1024 * 1024, 9));
    above('top.qcow', 'base.raw', '2M', 'write -P 4 900k 300k', 'write -P 0 64k 64k');
    const runs = both('top.qcow');
    expectSame(runs, ['top.qcow', 'base.raw']);
    const { size, blocks } = fs.statSync(`${runs.directories.ours}/top.qcow`);
    expect(blocks * 512, `of ${size} bytes`).to.be.lessThan(270_000);
  });

  it('into what cannot grow: refused, and nothing is changed', () => {
    qemuImg('create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', at('base.vmdk'), '1M');
    above('large.qcow2', 'base.vmdk', '2M', 'write -P 4 0 2M');
    const runs = both('large.qcow2');
    expectSame(runs, ['large.qcow2', 'base.vmdk']);
    expect(runs.ours.code).to.equal(1);
  });

  it('of a delta of vmdk only with -d: it does not open above a parent that was written', () => {
    qemuImg('create', '-q', '-f', 'vmdk', at('base.vmdk'), '1M');
    above('delta.vmdk', 'base.vmdk', '1M', 'write -P 4 0 512k');
    const expected = qemuBytes(at('delta.vmdk'), '-f', 'vmdk');
    expect(imgfs(['commit', at('delta.vmdk')]).stderr).to.match(/^imgfs: vmdk .*: with -d [^\n]*\n$/);
    expect(qemuBytes(at('delta.vmdk'), '-f', 'vmdk').equals(expected)).to.equal(true);
    expect(imgfs(['commit', '-d', at('delta.vmdk')]).code).to.equal(0);
    expect(qemuBytes(at('base.vmdk'), '-f', 'vmdk').equals(expected)).to.equal(true);
  });

  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    it(`ended by ${signal} halfway, it has changed nothing that is read, and can be done again`, async () => {
      const file = at('top.qcow2');
      qemuIo(file, ['write -P 7 1M 2M']);
      const expected = qemuBytes(file);
      const before = qemuBytes(at('mid.qcow2'));
      const child = spawn(process.execPath, [MAIN, 'commit', '-r', '256k', file], { stdio: 'ignore' });
      const ended = new Promise((resolve) => child.once('exit', (_, by) => resolve(by)));
      await until(() => fs.statSync(at('mid.qcow2')).size > 2 * 1024 * 1024);
      child.kill(signal);
      expect(await ended).to.equal(signal);
      expect(qemuBytes(file).equals(expected)).to.equal(true);
      expect(qemuBytes(at('mid.qcow2')).equals(before), 'something was copied').to.equal(false);
      expect(imgfs(['commit', '-q', file])).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      expect(qemuBytes(file).equals(expected)).to.equal(true);
      // What was reserved ahead is leaked by a kill, and nothing worse.
      const sound = signal === 'SIGKILL' ? [0, 3] : [0];
      for (const name of ['top.qcow2', 'mid.qcow2']) {
        expect(spawnSync('qemu-img', ['check', '-q', at(name)]).status, name).to.be.oneOf(sound);
      }
    });
  }

  it('keeps the snapshots of both', () => {
    for (const name of ['top.qcow2', 'mid.qcow2']) qemuImg('snapshot', '-c', 'before', at(name));
    qemuIo(at('top.qcow2'), ['write -P 8 600k 200k']);
    const past = qemuBytes(at('top.qcow2'), '-l', 'before');
    const pastBelow = qemuBytes(at('mid.qcow2'), '-l', 'before');
    const disk = qemuBytes(at('top.qcow2'));
    expect(imgfs(['commit', at('top.qcow2')]).stderr).to.equal('');
    expect(qemuBytes(at('top.qcow2')).equals(disk)).to.equal(true);
    expect(sizedAs(pastBelow, qemuBytes(at('mid.qcow2'), '-l', 'before')).equals(pastBelow)).to.equal(true);
    // What the snapshot of the top did not hold itself it shows of what lies below, as ever.
    const shown = qemuBytes(at('top.qcow2'), '-l', 'before');
    expect(shown.subarray(640 * 1024, 704 * 1024).equals(past.subarray(640 * 1024, 704 * 1024))).to.equal(true);
    for (const name of ['top.qcow2', 'mid.qcow2']) qemuImg('check', '-q', at(name));
  });

  for (const name of ['mid.qcow2', 'base.qcow2']) {
    it(`refused while ${name} is in use`, async () => {
      const session = await QemuSession.open('-f', 'qcow2', at(name));
      try {
        const { code, stderr } = imgfs(['commit', at('top.qcow2')]);
        expect(stderr).to.match(/^imgfs: .*in use[^\n]*\n$/);
        expect(code).to.equal(1);
      } finally {
        await session.close();
      }
    });
  }
});
