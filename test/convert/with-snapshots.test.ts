import fs from 'node:fs';
import { expect } from 'chai';
import { formats } from '../../src/formats/index.js';
import type { Image } from '../../src/image/image.js';
import { openImage } from '../../src/image/open.js';
import { convert } from '../cli/converting.js';
import { needsTool, qemuBytes, qemuImg, qemuIo } from '../support/qemu.js';
import { scratch } from '../support/scratch.js';
import { Random, SEED } from '../support/seed.js';

const KIB = 1024;

describe('converting with snapshots', function () {
  this.timeout(60_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);

  function opened<T>(file: string, look: (image: Image) => T): T {
    const references = { follow: true, allowed: [] };
    const { image } = openImage(file, { formats, format: 'qcow2', references, forceShare: false, warn: () => {} });
    try {
      return look(image);
    } finally {
      image.close();
    }
  }

  /** Every state as qemu-img and imgfs read it, and what is told of the snapshots. */
  function assertSame(source: string, target: string): void {
    qemuImg('check', '-q', target);
    qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', source, target);
    const [ours, theirs] = [target, source].map((file) => opened(file, (image) => image.snapshots()));
    expect(ours).to.deep.equal(theirs);
    for (const { id } of theirs ?? []) {
      const [one, other] = [source, target].map((file) =>
        opened(file, (image) => {
          const state = image.openSnapshot(id);
          const bytes = Buffer.alloc(state.size);
          state.read(bytes, 0);
          state.close();
          return bytes;
        }),
      );
      expect(one?.equals(other ?? Buffer.alloc(0)), `snapshot ${id}`).to.equal(true);
      const last = qemuBytes(target, '-f', 'qcow2', '-l', id);
      expect(one?.equals(last.subarray(0, one.length)), `snapshot ${id} by qemu-img`).to.equal(true);
    }
  }

  it('keeps every state of disks written at random, sizes, ids, names and dates', async () => {
    for (let n = 0; n < 4; n++) {
      const random = Random.forCase(SEED, n);
      const source = at('source.qcow2');
      const options =
        ['cluster_size=4k', 'cluster_size=64k', 'compat=0.10', 'extended_l2=on,cluster_size=64k'][n] ?? '';
      let size = 1024;
      qemuImg('create', '-q', '-f', 'qcow2', '-o', options, source, `${size}k`);
      for (let state = 0; state < 4; state++) {
        const commands = Array.from({ length: 4 }, () => {
          const from = random.below(size - 200);
          const kind = random.below(4) === 0 ? 'write -z' : `write -P ${random.below(256)}`;
          return `${kind} ${from}k ${1 + random.below(200)}k`;
        });
        qemuIo(source, commands);
        if (state < 3) qemuImg('snapshot', '-c', `state ${state}`, source);
        if (random.below(2) === 0 && options !== 'compat=0.10') {
          size += 512;
          qemuImg('resize', '-q', source, `${size}k`);
        }
      }
      if (random.below(2) === 0) qemuImg('snapshot', '-d', 'state 0', source);
      const result = await convert('--with-snapshots', '--verify', '-O', 'qcow2', source, at('target.qcow2'));
      expect(result, `case ${n} of seed ${SEED}`).to.deep.equal({ code: 0, error: '' });
      assertSame(source, at('target.qcow2'));
    }
  });

  it('stores what states have in common once, and takes no more than the source', async () => {
    const source = at('shared.qcow2');
    qemuImg('create', '-q', '-f', 'qcow2', source, '8M');
    qemuIo(source, ['write -P 1 0 4M']);
    for (const name of ['a', 'b', 'c']) {
      qemuImg('snapshot', '-c', name, source);
      qemuIo(source, ['write -P 2 1M 64k']);
    }
    expect(await convert('--with-snapshots', '-O', 'qcow2', source, at('copy.qcow2'))).to.include({ code: 0 });
    assertSame(source, at('copy.qcow2'));
    expect(fs.statSync(at('copy.qcow2')).size).to.be.at.most(fs.statSync(source).size + 1024 * KIB);
  });

  it('packed and above a backing file: all of it is in the copy', async () => {
    qemuImg('create', '-q', '-f', 'raw', at('base.raw'), '1M');
    qemuIo(at('base.raw'), ['write -P 7 0 700k'], ['-f', 'raw']);
    qemuImg('create', '-q', '-f', 'qcow2', '-b', 'base.raw', '-F', 'raw', at('top.qcow2'));
    qemuIo(at('top.qcow2'), ['write -P 8 100k 50k', 'write -c -P 9 256k 64k']);
    qemuImg('snapshot', '-c', 'one', at('top.qcow2'));
    qemuIo(at('top.qcow2'), ['write -c -P 10 320k 64k', 'write -z 0 64k']);
    expect(await convert('--with-snapshots', '--verify', '-O', 'qcow2', at('top.qcow2'), at('flat.qcow2'))).to.include({
      code: 0,
    });
    assertSame(at('top.qcow2'), at('flat.qcow2'));
    expect(opened(at('flat.qcow2'), (image) => image.backing)).to.equal(undefined);
  });

  it('is refused where it cannot be, and nothing is made', async () => {
    qemuImg('create', '-q', '-f', 'qcow2', at('any.qcow2'), '1M');
    const lines = [
      ['-O', 'raw', at('any.qcow2')],
      ['-O', 'qcow2', '-l', 'x', at('any.qcow2')],
      ['-O', 'qcow2', '-c', at('any.qcow2')],
      ['-O', 'qcow2', at('any.qcow2'), at('any.qcow2')],
      ['-O', 'qcow2', '-B', at('any.qcow2'), '-F', 'qcow2', at('any.qcow2')],
    ];
    for (const line of lines) {
      const { code, error } = await convert('--with-snapshots', ...line, at('none'));
      expect([code, error], line.join(' ')).to.satisfy(([c, e]: [number, string]) => c === 1 && /^imgfs: /.test(e));
      expect(fs.existsSync(at('none'))).to.equal(false);
    }
  });
});
