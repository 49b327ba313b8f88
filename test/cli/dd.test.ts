import fs from 'node:fs';
import { expect } from 'chai';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';
import { expectSame, runBeside } from './beside.js';

describe('imgfs dd', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(`from/${name}`);

  before(() => {
    fs.mkdirSync(directory.path('from'), { recursive: true });
    const bytes = Buffer.alloc(100_001);
    for (let n = 0; n < bytes.length; n++) bytes[n] = (n * 7 + Math.floor(n / 256)) % 251;
    fs.writeFileSync(at('in.raw'), bytes);
    qemuImg('create', '-q', '-f', 'qcow2', at('in.qcow2'), '8M');
    qemuIo(at('in.qcow2'), ['write -P 1 1M 100k', 'write -P 2 5M 64k', 'write -z 0 64k']);
  });

  const both = (line: string): ReturnType<typeof runBeside> =>
    runBeside(directory.path('from'), directory.path('.'), ['dd', ...line.split(' ')]);

  for (const line of [
    '-f raw if=in.raw of=out bs=512 skip=10 count=20',
    '-f raw if=in.raw of=out bs=700 skip=1 count=3',
    '-f raw if=in.raw of=out bs=1k skip=97',
    '-f raw if=in.raw of=out skip=196',
    '-f raw -O qcow2 if=in.raw of=out bs=3k count=7',
    '-O vdi if=in.qcow2 of=out bs=1M skip=1 count=6',
    'if=in.qcow2 of=out bs=64k count=1 count=1.5k',
  ]) {
    it(line, () => expectSame(both(line), ['out']));
  }

  it('skips past the end as qemu-img does: an empty disk, and a line that says so', () => {
    for (const line of ['-f raw if=in.raw of=out bs=512 skip=30 count=20', '-f raw if=in.raw of=out skip=1T']) {
      const { ours, theirs, directories } = both(line);
      expect([ours.code, theirs.code]).to.deep.equal([0, 0]);
      for (const { stderr } of [ours, theirs]) expect(stderr).to.match(/cannot skip to specified offset\n$/);
      for (const place of Object.values(directories)) expect(fs.statSync(`${place}/out`).size).to.equal(0);
    }
  });

  for (const line of ['if=in.raw', 'if=in.raw of=out bs=0', 'if=in.raw of=out conv=notrunc', 'in.raw out']) {
    it(`${line}: wrong`, () => {
      const runs = both(line);
      expectSame(runs, []);
      expect(runs.ours.code).to.equal(1);
      expect(fs.existsSync(`${runs.directories.ours}/out`)).to.equal(false);
    });
  }

  it('never into what it reads', () => {
    const before = fs.readFileSync(at('in.raw'));
    fs.linkSync(at('in.raw'), at('same.raw'));
    for (const name of ['in.raw', 'same.raw']) {
      const { code, stderr } = imgfs(['dd', '-f', 'raw', `if=${at('in.raw')}`, `of=${at(name)}`, 'count=1']);
      expect({ code, stderr }).to.have.property('code', 1);
      expect(stderr).to.match(/cannot be copied into itself\n$/);
    }
    expect(fs.readFileSync(at('in.raw')).equals(before)).to.equal(true);
    fs.rmSync(at('same.raw'));
  });
});
