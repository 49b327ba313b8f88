import fs from 'node:fs';
import { expect } from 'chai';
import { run } from '../support/program.js';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';
import { imgfs } from '../support/resident.js';
import { scratch } from '../support/scratch.js';

/** What imgfs and qemu-img are both asked: the same words, but for the secret that qemu-img insists on. */
const LINES: readonly string[] = [
  '-O qcow2 --size 0',
  '-O qcow2 --size 1001',
  '-O raw --size 1001',
  '--size 7G',
  '-O qcow2 --size 1G',
  '-O qcow2 --size 1P',
  '-O qcow2 --size 5T -o cluster_size=2M',
  '-O qcow2 --size 1G -o cluster_size=512',
  '-O qcow2 --size 1G -o cluster_size=4k,refcount_bits=64',
  '-O qcow2 --size 1G -o refcount_bits=1',
  '-O qcow2 --size 100G -o extended_l2=on',
  '-O qcow2 --size 100G -o extended_l2=on,cluster_size=16k',
  '-O qcow2 --size 1G -o preallocation=metadata',
  '-O qcow2 --size 1G -o preallocation=falloc',
  '-O qcow2 --size 1G -o preallocation=full',
  '-O qcow2 --size 1G -o compat=0.10',
  '-O qcow2 --size 1G -o encryption=on',
  '-O qcow2 --size 1G -o backing_file=x',
  '-O qcow2 --size 1G -o size=2G,lazy_refcounts=on',
  '-O qcow2 a.raw',
  '-O qcow2 -f raw a.qcow2',
  '-O qcow2 a.qcow2',
  '-O qcow2 -o cluster_size=512 a.qcow2',
  '-O qcow2 -o cluster_size=2M a.qcow2',
  '-O qcow2 -o compat=0.10 a.qcow2',
  '-O qcow2 -o backing_file=x a.qcow2',
  '-O qcow2 -o preallocation=falloc a.qcow2',
  '-O qcow2 -l before a.qcow2',
  '-O qcow2 -U a.qcow2',
  '-O raw a.qcow2',
  'a.qcow2',
  '-O qcow2 packed.qcow2',
  '-O qcow2 above.qcow2',
  '-O qcow2 odd.raw',
  '-O qcow2 a.vmdk',
  '-O qcow2 v2.qcow2',
  '-O qcow2 bitmaps.qcow2',
  '-O qcow2 -o cluster_size=512 bitmaps.qcow2',
];

const REFUSED: readonly string[] = [
  '-O vmdk --size 1G',
  '-O vdi a.raw',
  '-O qcow --size 1G',
  '-O wat --size 1G',
  '-O qcow2',
  '-O qcow2 --size 1G a.raw',
  '-O qcow2 a.raw a.raw',
  '-O qcow2 -o foo=1 --size 1G',
  '-O qcow2 -o cluster_size=300 --size 1G',
  '-O qcow2 -o refcount_bits=3 --size 1G',
  '-O qcow2 -o compat=0.10,refcount_bits=8 --size 1G',
  '-O qcow2 -o cluster_size=512 --size 1P',
  '-O qcow2 --size -1',
  '-O qcow2 -l wat a.qcow2',
  '-O qcow2 nobody',
];

describe('imgfs measure', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  before(() => {
    fs.writeFileSync(at('odd.raw'), Buffer.alloc(70_001, 3));
    qemuImg('create', '-q', '-f', 'raw', at('a.raw'), '20M');
    qemuIo(at('a.raw'), ['write -P 1 1M 100k', 'write -P 2 5000k 4k', 'write -z 7M 64k'], ['-f', 'raw']);
    qemuImg('create', '-q', '-f', 'qcow2', at('a.qcow2'), '20M');
    qemuIo(at('a.qcow2'), ['write -P 1 100k 300k', 'write -P 2 9M 512', 'write -z 12M 1M']);
    qemuImg('snapshot', '-c', 'before', at('a.qcow2'));
    qemuIo(at('a.qcow2'), ['write -P 3 15M 2M']);
    qemuImg('convert', '-c', '-O', 'qcow2', at('a.qcow2'), at('packed.qcow2'));
    qemuImg('convert', '-O', 'vmdk', at('a.qcow2'), at('a.vmdk'));
    qemuImg('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', at('v2.qcow2'), '20M');
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'a.qcow2', '-F', 'qcow2', at('above.qcow2'));
    qemuIo(at('above.qcow2'), ['write -z 0 1M', 'write -P 3 11M 64k']);
    qemuImg('create', '-q', '-f', 'qcow2', at('bitmaps.qcow2'), '3G');
    qemuImg('bitmap', '--add', at('bitmaps.qcow2'), 'one');
    qemuImg('bitmap', '--add', '-g', '512', at('bitmaps.qcow2'), 'a longer name');
  });

  const words = (line: string): readonly string[] =>
    line.split(' ').map((word) => (fs.existsSync(at(word)) ? at(word) : word));

  it(`${LINES.length} times as qemu-img measures`, () => {
    for (const line of LINES) {
      const { code, stdout } = imgfs(['measure', ...words(line)]);
      expect({ code, stdout }, line).to.deep.equal({ code: 0, stdout: qemuImg('measure', ...words(line)) });
    }
  });

  it('--output=json: its keys, and schema', () => {
    for (const line of ['-O qcow2 --size 1G', '-O qcow2 bitmaps.qcow2', '-O raw a.qcow2']) {
      const [ours, theirs] = [imgfs(['measure', '--output=json', ...words(line)]).stdout, ['--output=json']];
      expect(JSON.parse(ours), line).to.deep.equal({
        schema: 'imgfs.measure/1',
        ...JSON.parse(qemuImg('measure', ...theirs, ...words(line))),
      });
    }
  });

  it('encrypted images: with the room for their keys', () => {
    fs.writeFileSync(at('secret'), 'x');
    const secret = ['--object', `secret,id=s,file=${at('secret')}`];
    for (const line of [
      '-O luks --size 1G -o key-secret=s,iter-time=10,cipher-alg=aes-128',
      '-O qcow2 --size 1G -o encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=s',
      '-O qcow2 -o encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=s,cluster_size=4k a.qcow2',
    ]) {
      const theirs = qemuImg('measure', ...secret, ...words(line));
      expect(imgfs(['measure', ...secret, ...words(line)]).stdout, line).to.equal(theirs);
    }
  });

  it('refused as qemu-img refuses', () => {
    for (const line of REFUSED) {
      const theirs = run('qemu-img', ['measure', ...words(line)]);
      const { code, stdout, stderr } = imgfs(['measure', ...words(line)]);
      expect({ code, stdout }, line).to.deep.equal({ code: theirs.code, stdout: '' });
      expect(stderr.trimEnd().split('\n'), line).to.have.length(1);
    }
  });
});
