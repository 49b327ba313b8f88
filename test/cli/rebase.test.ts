import fs from 'node:fs';
import { expect } from 'chai';
import { needsTool, qemuBytes, qemuImg, qemuImgJson, qemuIo } from '../support/qemu.js';
import { QemuSession } from '../support/qemu-session.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';
import { expectSame, runBeside } from './beside.js';

describe('imgfs rebase', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(`from/${name}`);

  before(() => {
    fs.mkdirSync(directory.path('from'), { recursive: true });
    qemuImg('create', '-q', '-f', 'qcow2', at('base.qcow2'), '4M');
    qemuIo(at('base.qcow2'), ['write -P 1 0 1M', 'write -P 2 3M 128k']);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.qcow2', '-F', 'qcow2', at('mid.qcow2'), '3M');
    qemuIo(at('mid.qcow2'), ['write -P 3 512k 256k', 'write -z 0 128k']);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'mid.qcow2', '-F', 'qcow2', at('top.qcow2'), '5M');
    qemuIo(at('top.qcow2'), ['write -P 4 640k 64k', 'write -P 5 4900k 100k']);
    fs.writeFileSync(at('other.raw'), Buffer.alloc(6 * 1024 * 1024, 9));
  });

  const both = (line: string): ReturnType<typeof runBeside> => {
    const words = line.split(' ').map((word) => (word === "''" ? '' : word));
    return runBeside(directory.path('from'), directory.path('.'), ['rebase', ...words]);
  };

  for (const line of [
    '-b base.qcow2 -F qcow2 top.qcow2',
    '-b other.raw -F raw top.qcow2',
    "-b '' top.qcow2",
    '-u -b other.raw -F raw top.qcow2',
    '-b base.qcow2 top.qcow2',
    '-b no.qcow2 -F qcow2 top.qcow2',
    '-b top.qcow2 -F qcow2 top.qcow2',
    'top.qcow2',
  ]) {
    it(line, () => {
      const runs = both(line);
      expectSame(runs, ['top.qcow2']);
      qemuImg('check', '-q', `${runs.directories.ours}/top.qcow2`);
    });
  }

  it('-u opens nothing but the image: what it names need not be there', () => {
    const file = at('alone.qcow2');
    fs.copyFileSync(at('top.qcow2'), file);
    expect(imgfs(['rebase', '-u', '-b', 'gone.qcow2', '-F', 'qcow2', file])).to.deep.equal({
      code: 0,
      stdout: '',
      stderr: '',
    });
    expect(imgfs(['rebase', '-u', '-b', 'base.qcow2', '-F', 'qcow2', file]).code).to.equal(0);
    expect(qemuImgJson('info', '--output=json', file)).to.include({ 'backing-filename': 'base.qcow2' });
  });

  it('keeps the bitmaps of an image whose disk stays', () => {
    const file = at('marked.qcow2');
    fs.copyFileSync(at('top.qcow2'), file);
    qemuImg('bitmap', '--add', file, 'marks');
    expect(imgfs(['rebase', '-u', '-b', 'mid.qcow2', '-F', 'qcow2', file]).stderr).to.equal('');
    const { code, stdout } = imgfs(['info', '--json', file]);
    expect(code).to.equal(0);
    expect(stdout).to.include('"marks"').and.not.include('in-use');
  });

  it('qcow can have another one too, whose format it finds by itself', () => {
    qemuImg('create', '-q', '-f', 'qcow', '-b', 'base.qcow2', '-F', 'qcow2', at('top.qcow'), '4M');
    qemuIo(at('top.qcow'), ['write -P 4 640k 64k'], ['-f', 'qcow']);
    const disk = qemuBytes(at('top.qcow'), '-f', 'qcow');
    qemuImg('convert', '-O', 'vdi', at('mid.qcow2'), at('mid.vdi'));
    expect(imgfs(['rebase', '-b', 'mid.vdi', '-F', 'vdi', at('top.qcow')]).stderr).to.match(/leave out -F/);
    for (const name of ['mid.vdi', '']) {
      expect(imgfs(['rebase', '-b', name, at('top.qcow')])).to.deep.equal({ code: 0, stdout: '', stderr: '' });
      expect(qemuBytes(at('top.qcow'), '-f', 'qcow').equals(disk)).to.equal(true);
    }
  });

  it('refused while what would lie below is written', async () => {
    const session = await QemuSession.open('-f', 'raw', at('other.raw'));
    try {
      const { code, stderr } = imgfs(['rebase', '-b', 'other.raw', '-F', 'raw', at('top.qcow2')]);
      expect(stderr).to.match(/^imgfs: .*in use[^\n]*\n$/);
      expect(code).to.equal(1);
    } finally {
      await session.close();
    }
  });
});
