import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { EXTENSION } from '../../src/formats/qcow2/layout.js';
import { HEADER_OFFSETS } from '../../src/formats/qcow2/samples/fields.js';
import { SampleImage, type SampleOptions } from '../../src/formats/qcow2/samples/image.js';
import { layOut } from '../../src/formats/qcow2/samples/lay-out.js';
import { openFile } from '../support/images.js';
import { MAIN } from '../support/imgfs.js';
import { outcome } from '../support/outcome.js';
import { needsTool, qemuImg, qemuIo } from '../support/qemu.js';
import { withScratch } from '../support/scratch.js';
import type { Measured } from './measure.js';

const MEASURE = path.join(path.dirname(fileURLToPath(import.meta.url)), 'measure.js');

/** Opens `file` in a process of its own and reads at the offsets; what it took. */
function measure(file: string, ...offsets: readonly (number | 'end')[]): Measured {
  const out = execFileSync(process.execPath, [MEASURE, file, ...offsets.map(String)], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  return JSON.parse(out) as Measured;
}

/** Writes an image with header fields changed, and the file grown (sparsely) to `length`. */
function forged(directory: string, fields: Readonly<Record<string, bigint>>, more: Forgery = {}): string {
  const recipe = new SampleImage({ size: 2 ** 20, ...more.options });
  const bytes = Buffer.from(recipe.write(0, Buffer.alloc(recipe.clusterSize, 1)).snapshot('s').build());
  for (const [name, value] of Object.entries(fields)) {
    const at = HEADER_OFFSETS.get(name);
    if (at === undefined) throw new Error(`no field ${name}`);
    if (['backingAt', 'size', 'l1At', 'refcountTableAt', 'snapshotsAt'].includes(name))
      bytes.writeBigUInt64BE(value, at);
    else bytes.writeUInt32BE(Number(value), at);
  }
  const file = path.join(directory, 'forged.qcow2');
  fs.writeFileSync(file, bytes);
  if (more.length !== undefined) fs.truncateSync(file, more.length);
  return file;
}

interface Forgery {
  readonly options?: Omit<SampleOptions, 'size'>;
  readonly length?: number;
}

function within(body: (directory: string) => void): void {
  withScratch('sizes', body);
}

function bounded(measured: Measured): Measured {
  expect(measured.grownMiB).to.be.lessThan(128);
  expect(measured.milliseconds).to.be.lessThan(2000);
  return measured;
}

describe('hostile: sizes', () => {
  it('alloc-bomb: every size field at its largest costs nothing', () =>
    within((directory) => {
      const most = 2n ** 32n - 1n;
      const fields = {
        size: 2n ** 63n - 512n,
        l1Entries: most,
        refcountTableClusters: most,
        snapshotCount: most,
        backingBytes: most,
        headerBytes: most,
      };
      for (const [name, value] of Object.entries(fields)) {
        expect(bounded(measure(forged(directory, { [name]: value }))).grownMiB, name).to.be.lessThan(32);
      }
      expect(bounded(measure(forged(directory, fields))).grownMiB).to.be.lessThan(32);
    }));

  it('alloc-bomb-sparse: nor do tables at their limits in a file long enough to hold them', () =>
    within((directory) => {
      const at = 2n ** 30n;
      const length = 2 ** 32;
      const l1 = forged(directory, { l1Entries: 2n ** 22n, l1At: at }, { length });
      expect(bounded(measure(l1, 0, 'end'))).to.include({ opened: 'done', snapshots: 'done' });
      const table = forged(directory, { refcountTableClusters: 128n, refcountTableAt: at }, { length });
      expect(bounded(measure(table, 0, 'end')).opened).to.equal('done');
      const snapshots = forged(directory, { snapshotCount: 65_536n, snapshotsAt: at }, { length });
      expect(bounded(measure(snapshots, 0))).to.include({ opened: 'done', snapshots: 'done' });
      const all = { l1Entries: 2n ** 22n, l1At: at, snapshotCount: 65_536n, snapshotsAt: at, refcountTableAt: at };
      bounded(measure(forged(directory, { ...all, refcountTableClusters: 128n }, { length }), 0));
    }));

  it('snapshot-table-full: 65536 snapshots, with names up to the limit of the table and past it', () =>
    within((directory) => {
      for (const length of [384, 392]) {
        const entry = Buffer.alloc(length, 'n');
        entry.fill(0, 0, 40);
        entry.writeUInt16BE(length - 40, 14);
        const at = 2 ** 20;
        const file = forged(directory, { snapshotCount: 65_536n, snapshotsAt: BigInt(at) }, { length: at });
        for (let n = 0; n < 64; n++) fs.appendFileSync(file, Buffer.concat(Array<Buffer>(1024).fill(entry)));
        const measured = bounded(measure(file, 0));
        expect(measured).to.include({ opened: 'done', snapshots: length === 384 ? 'done' : 'limit' });
      }
    }));

  it('open-8EiB: refused at once', () =>
    within((directory) => {
      const times = [2n ** 63n - 1n, 2n ** 63n - 512n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 53n, 2n ** 52n].map((size) => {
        const measured = bounded(measure(forged(directory, { size })));
        expect(measured.opened).to.be.oneOf(['limit', 'corrupt']);
        return measured.milliseconds;
      });
      // The best of them: what else the machine does meanwhile is not ours.
      expect(Math.min(...times)).to.be.lessThan(50);
    }));

  it('header-extensions: neither frames of no length nor frames of all lengths keep the parser busy', () =>
    within((directory) => {
      const options = { clusterBits: 21 };
      for (const [type, length] of [
        [1, 0],
        [EXTENSION.featureNames, 0],
        [EXTENSION.dataFile, 8],
        [1, 2 ** 32 - 1],
        [1, 2 ** 31],
      ] as const) {
        const file = forged(directory, {}, { options });
        const frames = Buffer.alloc(2 ** 21 - 112);
        for (let at = 0; at + 16 <= frames.length; at += 8 + (length === 8 ? 8 : 0)) {
          frames.writeUInt32BE(type, at);
          frames.writeUInt32BE(length, at + 4);
        }
        const fd = fs.openSync(file, 'r+');
        fs.writeSync(fd, frames, 0, frames.length, 112);
        fs.closeSync(fd);
        expect(bounded(measure(file)).grownMiB, `type ${type}, length ${length}`).to.be.lessThan(64);
      }
    }));

  it('bomb-qcow2: what a compressed cluster may yield is a cluster', () =>
    within((directory) => {
      const large = new SampleImage({ size: 2 ** 21, clusterBits: 21 }).pack(0, new Uint8Array(2 ** 21));
      for (const compression of ['zlib', 'zstd'] as const) {
        const zeros = new SampleImage({ size: 2 ** 21, clusterBits: 21, compression }).pack(0, new Uint8Array(2 ** 21));
        const stream = zeros.clusters.get(0)?.bytes ?? large.build();
        const recipe = new SampleImage({ size: 2 ** 22, clusterBits: 12, compression });
        for (let n = 0; n < 64; n++) recipe.pack(n * 4096, new Uint8Array(), stream.subarray(0, 4096));
        const file = path.join(directory, 'bomb.qcow2');
        fs.writeFileSync(file, recipe.build());
        const offsets = Array.from({ length: 64 }, (_, n) => n * 4096);
        const measured = bounded(measure(file, ...offsets));
        expect(measured.reads.every((reason) => reason === 'corrupt')).to.equal(true);
        expect(measured.grownMiB).to.be.lessThan(32);
      }
    }));

  it('sparse-file-map: a file of 8 TiB of holes is not walked', () =>
    within((directory) => {
      const file = forged(directory, {}, { options: { clusterBits: 9, refcountBits: 64 }, length: 2 ** 43 });
      const started = performance.now();
      execFileSync(process.execPath, [MAIN, 'map', file]);
      expect(performance.now() - started).to.be.lessThan(2000);
    }));

  describe('of real images', () => {
    needsTool('qemu-img', 'qemu-io');

    it('sparse-64TiB: opened and read at both ends in a second and 100 MiB', () =>
      within((directory) => {
        const file = path.join(directory, 'huge.qcow2');
        qemuImg('create', '-f', 'qcow2', file, '64T');
        qemuIo(file, ['write -P 1 0 64k', `write -P 2 ${2 ** 46 - 65_536} 64k`]);
        const measured = measure(file, 0, 'end', 2 ** 45);
        expect(measured).to.include({ opened: 'done', size: 2 ** 46 });
        expect(measured.reads).to.deep.equal(['done', 'done', 'done']);
        expect(measured.milliseconds).to.be.lessThan(1000);
        expect(measured.grownMiB).to.be.lessThan(100);
      }));
  });
});

describe('hostile: tables that point where they should not', () => {
  /** A 4 KiB-cluster image whose L2 entry 1 points at `offset`; cluster 0 holds ones. */
  function pointing(offset: bigint): { file: (directory: string) => string } {
    const recipe = new SampleImage({ size: 2 ** 20, clusterBits: 12 }).write(0, Buffer.alloc(8192, 1)).snapshot('s');
    const laid = layOut(recipe);
    const image = Buffer.from(laid.image);
    image.writeBigUInt64BE(offset, (laid.l2At.get(0) ?? 0) + 8);
    return {
      file(directory) {
        fs.writeFileSync(path.join(directory, 'a.qcow2'), image);
        return path.join(directory, 'a.qcow2');
      },
    };
  }

  it('l2-at-metadata: a cluster may lie on any table, at itself or past the end; its neighbour stays readable', () =>
    within((directory) => {
      const offsets = [4096n, 8192n, 12_288n, 16_384n, 20_480n, 2n ** 40n, 2n ** 52n, 2n ** 55n, 513n, 4096n + 512n];
      for (const offset of [
        ...offsets,
        ...offsets.map((n) => n + (1n << 62n)),
        ...offsets.map((n) => n + (1n << 63n)),
      ]) {
        const image = openFile(pointing(offset).file(directory));
        const reads = [0, 4096, 8192, 2 ** 20 - 512].map((at) => outcome(() => image.read(new Uint8Array(512), at)));
        image.close();
        expect(reads.toSpliced(1, 1)).to.deep.equal(['done', 'done', 'done']);
        expect(reads[1]).to.be.oneOf(['done', 'corrupt', 'truncated']);
      }
    }));

  it('l1-at-itself: an L1 table that is its own L2 table', () =>
    within((directory) => {
      const laid = layOut(new SampleImage({ size: 2 ** 20, clusterBits: 12 }).write(0, Buffer.alloc(4096, 1)));
      const image = Buffer.from(laid.image);
      image.writeBigUInt64BE(BigInt(laid.l1At), laid.l1At);
      const file = path.join(directory, 'a.qcow2');
      fs.writeFileSync(file, image);
      expect(bounded(measure(file, 0, 4096, 'end')).opened).to.equal('done');
    }));
});
