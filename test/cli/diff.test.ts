import fs from 'node:fs';
import { expect } from 'chai';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';
import { imgfs, imgfsJson } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

const KIB = 1024;

describe('imgfs diff', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  before(() => {
    qemuImg('create', '-q', '-f', 'qcow2', at('disk.qcow2'), '1T');
    qemuIo(at('disk.qcow2'), ['write -P 1 0 64k', 'write -P 2 500G 64k']);
    qemuImg('snapshot', '-c', 'monday', at('disk.qcow2'));
    qemuIo(at('disk.qcow2'), ['write -P 3 16k 4k', 'write -P 4 600G 1k']);
    qemuImg('snapshot', '-c', 'tues@day', at('disk.qcow2'));
    qemuIo(at('disk.qcow2'), ['write -z 500G 64k']);
  });

  const monday = [
    { start: 16 * KIB, length: 4 * KIB, first: 'data', second: 'data' },
    { start: 600 * 2 ** 30, length: KIB, first: 'zero', second: 'data' },
  ];

  it('between two snapshots: ranges as JSON and as text', () => {
    const disks = [`${at('disk.qcow2')}@monday`, `${at('disk.qcow2')}@tues@day`] as const;
    const { code, stdout, stderr } = imgfs(['diff', '--json', ...disks]);
    expect({ code, stderr }).to.deep.equal({ code: 1, stderr: '' });
    expect(JSON.parse(stdout)).to.deep.equal({
      schema: 'imgfs.diff/1',
      disks: [
        { filename: at('disk.qcow2'), snapshot: 'monday', 'virtual-size': 2 ** 40 },
        { filename: at('disk.qcow2'), snapshot: 'tues@day', 'virtual-size': 2 ** 40 },
      ],
      ranges: monday,
    });
    expect(imgfs(['diff', ...disks]).stdout.split('\n')).to.deep.equal([
      'Offset          Length          First   Second',
      '0x4000          0x1000          data    data',
      '0x9600000000    0x400           zero    data',
      '',
    ]);
    expect(imgfs(['diff', '-q', ...disks])).to.deep.equal({ code: 1, stdout: '', stderr: '' });
  });

  it('between a snapshot and the disk as it is, or other files; nothing is printed where there is none', () => {
    const file = at('disk.qcow2');
    const now = [{ start: 500 * 2 ** 30, length: 64 * KIB, first: 'data', second: 'zero' }];
    expect(JSON.parse(imgfs(['diff', '--json', `${file}@2`, file]).stdout)).to.have.deep.property('ranges', now);
    expect(imgfs(['diff', file, file])).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(imgfsJson(['diff', '--json', file, file])).to.have.deep.property('ranges', []);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', at('above.qcow2'));
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'disk.qcow2', '-F', 'qcow2', at('beside.qcow2'));
    expect(imgfs(['diff', at('above.qcow2'), at('beside.qcow2')]).code).to.equal(0);
  });

  it('a file goes before a snapshot: names may hold an @', () => {
    fs.writeFileSync(at('a.raw'), Buffer.alloc(4096, 1));
    fs.writeFileSync(at('a.raw@b'), Buffer.alloc(8192, 1));
    const run = imgfs(['diff', '-f', 'raw', '-F', 'raw', '--json', at('a.raw'), at('a.raw@b')]);
    expect(run.stderr).to.match(/^imgfs: warning: the disks have 4096 and 8192 bytes;[^\n]*\n$/);
    expect(JSON.parse(run.stdout)).to.have.deep.property('ranges', [
      { start: 4096, length: 4096, first: 'zero', second: 'data' },
    ]);
  });

  it('ends with 2 where it cannot tell', () => {
    for (const args of [
      [at('none.qcow2'), at('disk.qcow2')],
      [`${at('disk.qcow2')}@none`, at('disk.qcow2')],
      [at('disk.qcow2')],
      ['-f', 'vdi', at('disk.qcow2'), at('disk.qcow2')],
    ]) {
      const { code, stdout, stderr } = imgfs(['diff', ...args]);
      expect({ code, stdout }, args.join(' ')).to.deep.equal({ code: 2, stdout: '' });
      expect(stderr).to.match(/^imgfs: [^\n]*\n$/);
    }
  });
});
