import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { expect } from 'chai';
import type { BlockWork } from '../../src/convert/block.js';
import { blockWork, type CopyOptions, copyDisk } from '../../src/convert/copy.js';
import { Crew } from '../../src/convert/crew.js';
import { Ring } from '../../src/convert/ring.js';
import { Sources } from '../../src/convert/sources.js';
import { formats } from '../../src/formats/index.js';
import { driverNamed } from '../../src/formats/one.js';
import { openImage } from '../../src/image/open.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { needsTool, qemuImg } from '../support/qemu.js';
import { scratch } from '../support/scratch.js';
import { Taken } from './taken.js';

const MIB = 2 ** 20;
const PLAIN: CopyOptions = {
  targetIsZero: true,
  topLayer: false,
  sparse: 4096,
  byHost: false,
  pack: false,
  outOfOrder: false,
};

describe('copying by several threads', function () {
  this.timeout(60_000);
  needsTool('qemu-img');
  const directory = scratch();
  const at = (name: string): string => directory.path(name);
  const bytes = Buffer.alloc(24 * MIB);

  before(() => {
    // Compressible, with holes, and every block is another.
    const part = randomBytes(1000);
    for (let n = 0; n < bytes.length / MIB; n++) {
      if (n % 5 !== 3) for (let k = 0; k < 600; k++) part.copy(bytes, n * MIB + k * 1500 + n);
    }
    fs.writeFileSync(at('plain.raw'), bytes);
    qemuImg('convert', '-f', 'raw', '-c', '-O', 'qcow2', at('plain.raw'), at('packed.qcow2'));
  });

  /** Copies it with three threads, which begin at once; says how many steps it took. */
  async function copy(
    name: string,
    target: Taken,
    options: Partial<CopyOptions> = {},
    during: (done: number) => void = () => {},
  ): Promise<void> {
    const references = { follow: true, allowed: [] };
    const sources = new Sources([at(name)], (path) =>
      openImage(path, { formats, references, forceShare: false, warn: () => {} }),
    );
    const chosen = { ...PLAIN, ...options };
    const work: BlockWork = blockWork(target, chosen);
    const crew = new Crew({ plans: sources.plans(), hostBytes: Number.POSITIVE_INFINITY, work, count: 3 });
    try {
      for (const done of copyDisk(sources.disk, target, chosen, crew)) {
        during(done);
        await new Promise(setImmediate);
      }
    } finally {
      await crew.end();
      sources.close();
    }
  }

  for (const name of ['plain.raw', 'packed.qcow2']) {
    it(`${name}: all bytes, in the order of the disk`, async () => {
      const target = new Taken(bytes.length, 0);
      await copy(name, target);
      expect(target.bytes.equals(bytes)).to.equal(true);
      const starts = target.written.map(([from]) => from);
      expect(starts).to.deep.equal([...starts].sort((a, b) => a - b));
    });

    it(`${name}: all bytes, each once, out of order`, async () => {
      const target = new Taken(bytes.length, 9);
      await copy(name, target, { outOfOrder: true, targetIsZero: false });
      expect(target.bytes.equals(bytes)).to.equal(true);
      const done = [...target.written, ...target.cleared].sort(([a], [b]) => a - b);
      expect(done.every(([from], index) => from >= (done[index - 1]?.[1] ?? 0))).to.equal(true);
    });
  }

  it('of several blocks that cannot be read, the first ends it, and all before it are written', async () => {
    fs.copyFileSync(at('packed.qcow2'), at('bad.qcow2'));
    const fd = fs.openSync(at('bad.qcow2'), 'r+');
    const clusters = JSON.parse(qemuImg('map', '--output=json', at('packed.qcow2'))) as { start: number }[];
    expect(clusters.length).to.be.greaterThan(1);
    // The second half of the file: every stream in it is damaged.
    const { size } = fs.fstatSync(fd);
    const half = Math.floor(size / 2);
    const kept = Buffer.alloc(size - half);
    fs.readSync(fd, kept, 0, kept.length, half);
    for (let k = 64; k < kept.length; k += 97) kept[k] = kept[k]! ^ 0xff;
    fs.writeSync(fd, kept, 0, kept.length, half);
    fs.closeSync(fd);
    const results = await Promise.all(
      [false, true].map(async (outOfOrder) => {
        const target = new Taken(bytes.length, 0);
        const failure = await copy('bad.qcow2', target, { outOfOrder }).catch((error: unknown) => error);
        expect(failure).to.be.instanceOf(ImgfsError);
        return { message: (failure as ImgfsError).message, target };
      }),
    );
    const [inOrder, other] = results as [(typeof results)[0], (typeof results)[0]];
    expect(other.message).to.equal(inOrder.message);
    const end = inOrder.target.written.at(-1)?.[1] ?? 0;
    expect(end).to.be.greaterThan(0).and.lessThan(bytes.length);
    expect(inOrder.target.bytes.subarray(0, end).equals(bytes.subarray(0, end))).to.equal(true);
  });

  it('stops at once where nobody asks for more, and leaves no thread', async () => {
    const target = new Taken(bytes.length, 0);
    const stop = new Error('enough');
    const ended = await copy('packed.qcow2', target, {}, (done) => {
      if (done >= 4 * MIB) throw stop;
    }).catch((error: unknown) => error);
    expect(ended).to.equal(stop);
    expect(target.written.at(-1)?.[1]).to.be.lessThan(8 * MIB);
  });

  it('a thread that dies ends it', async () => {
    const plans = [{ format: 'no such format' }] as never;
    const work: BlockWork = { unit: 4096, packing: undefined, end: MIB, salvage: false };
    const crew = new Crew({ plans, hostBytes: Number.POSITIVE_INFINITY, work, count: 1 });
    crew.expect({ kind: 'data', from: 0, to: MIB, packed: true, place: undefined });
    const deadline = performance.now() + 20_000;
    let failure: unknown;
    while (failure === undefined && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      try {
        crew.assertWell();
      } catch (error) {
        failure = error;
      }
    }
    await crew.end();
    expect(failure).to.be.instanceOf(ImgfsError).and.have.property('message').that.includes('a thread');
  });

  it('every driver can be had alone, by its name', async () => {
    for (const format of formats) {
      if (format.kind === 'image') expect(await driverNamed(format.name)).to.equal(format);
    }
  });

  it('a ring takes blocks in order, whoever works on them, and passes on errors', () => {
    const ring = Ring.of(2);
    const other = new Ring(ring.memory);
    expect([ring.put(0, 10), ring.put(10, 20)]).to.deep.equal([0, 1]);
    const work = (target: Ring, failing = false): boolean =>
      target.workOnNext((slot) => {
        if (failing) throw new ImgfsError('corrupt', `at ${slot.from}`, { hint: 'try' });
        slot.setRuns([{ zero: true, from: 1, to: 5, packed: 0 }]);
      });
    expect([work(other), work(ring, true), work(other)]).to.deep.equal([true, true, false]);
    expect([0, 1].map((number) => [ring.isReady(number), ring.isPrepared(number)])).to.deep.equal([
      [true, true],
      [true, false],
    ]);
    expect([...ring.take(0).runs()]).to.deep.equal([{ zero: true, from: 1, to: 5, packed: 0 }]);
    expect(() => ring.take(1))
      .to.throw(ImgfsError, 'at 10')
      .with.property('hint', 'try');
    ring.put(20, 30);
    expect(ring.isReady(2)).to.equal(false);
    ring.end();
    expect([work(other), other.ended]).to.deep.equal([false, true]);
  });
});
