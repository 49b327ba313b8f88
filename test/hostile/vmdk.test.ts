/** What the text of a vmdk names, and what its extents claim. */
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { deflateZlib } from '../../src/codec/inflate.js';
import { formats } from '../../src/formats/index.js';
import { textOf } from '../../src/formats/vmdk/samples/catalogue.js';
import { SampleExtent } from '../../src/formats/vmdk/samples/sparse.js';
import type { GatePolicy } from '../../src/image/gate.js';
import { openImage } from '../../src/image/open.js';
import { failure, outcome } from '../support/outcome.js';
import { openDescriptors, withScratch } from '../support/scratch.js';
import { makePlace, type Place, SECRET, vmdkNaming } from './corpus.js';

interface How {
  readonly references?: GatePolicy;
  /** Opened for writing; with `trusted` also what the image names. */
  readonly write?: 'own' | 'trusted' | undefined;
}

/** Opens, reads the first sector (and writes it back), and closes; the text read. Nothing may be left open. */
function look(file: string, { references = { follow: true, allowed: [] }, write }: How = {}): string {
  const before = openDescriptors();
  const access = { references: write === 'trusted', direct: false, unsafe: false, threads: false };
  const options = { formats, references, forceShare: false, warn: () => {}, write: write && access };
  try {
    const { image } = openImage(file, options);
    try {
      const into = Buffer.alloc(512);
      image.read(into, 0);
      if (write !== undefined) image.write(into, 0);
      return into.toString('latin1');
    } finally {
      image.close();
    }
  } finally {
    expect(openDescriptors()).to.deep.equal(before);
  }
}

function within(body: (place: Place) => void): void {
  withScratch('hostile', (directory) => body(makePlace(directory)));
}

function refused(file: string, how?: How): void {
  const started = performance.now();
  expect(outcome(() => look(file, how))).to.equal('refused');
  expect(performance.now() - started).to.be.lessThan(2000);
}

const flat = (name: string): Uint8Array => vmdkNaming([`RW 1 FLAT "${name}" 0`]);

describe('hostile: what the text of a vmdk names', () => {
  it('vmdk-flat-absolute: no file of the host becomes a disk', () =>
    within(({ secret, put }) => {
      for (const name of [secret, '/etc/passwd', '/proc/self/environ']) refused(put('a.vmdk', flat(name)));
      for (const name of [secret, '/etc/passwd']) refused(put('a.vmdk', vmdkNaming([`RW 1 SPARSE "${name}"`])));
      const hint = failure(() => look(put('a.vmdk', flat(secret))))?.hint;
      expect(hint).to.include(`--allow-refs ${path.dirname(secret)}`);
      const allowed = { follow: true, allowed: [path.dirname(secret)] };
      expect(look(put('a.vmdk', flat(secret)), { references: allowed })).to.include(SECRET);
    }));

  it('vmdk-flat-dotdot: nor by a way up, or a link', () =>
    within(({ home, secret, put }) => {
      fs.symlinkSync(secret, path.join(home, 'out.vmdk'));
      for (const name of ['../secret', 'sub/../../secret', 'out.vmdk']) refused(put('a.vmdk', flat(name)));
      put('flat.vmdk', Buffer.from('the disk'.padEnd(512)));
      expect(look(put('b.vmdk', flat('sub/../flat.vmdk')))).to.include('the disk');
    }));

  it('vmdk-device: devices are refused by their name, whatever the text calls them', () =>
    within(({ put }) => {
      for (const type of ['fullDevice', 'partitionedDevice', 'vmfsRaw']) {
        const text = Buffer.from(textOf(type, ['RW 1 FLAT "/dev/zero" 0']));
        expect(outcome(() => look(put('a.vmdk', text)))).to.equal('unsupported');
      }
      refused(put('a.vmdk', flat('/dev/zero')));
      refused(put('a.vmdk', flat('flat.vmdk')), { references: NONE });
    }));

  it('vmdk-flat-self: an extent is not the text that names it, by any name', () =>
    within(({ home, put }) => {
      for (const name of ['a.vmdk', './a.vmdk', path.join(home, 'a.vmdk')]) {
        for (const write of [undefined, 'trusted'] as const) {
          const ended = outcome(() => look(put('a.vmdk', flat(name)), { write }));
          expect(ended).to.be.oneOf(write === undefined ? ['refused'] : ['refused', 'busy']);
        }
      }
      const sparse = new SampleExtent({ size: 0, text: textOf('custom', ['RW 1 SPARSE "b.vmdk"']) }).build().image;
      refused(put('b.vmdk', sparse));
    }));

  it('vmdk-extent-too-short: an extent is as long as the text says', () =>
    within(({ put }) => {
      put('flat.vmdk', Buffer.alloc(511));
      expect(outcome(() => look(put('a.vmdk', flat('flat.vmdk'))))).to.equal('truncated');
    }));

  it('vmdk-embedded-text: what stands inside an extent names nothing', () =>
    within(({ secret, put }) => {
      const text = textOf('monolithicSparse', [`RW 1 FLAT "${secret}" 0`]);
      const image = new SampleExtent({ size: 4096, text }).build().image;
      expect(look(put('a.vmdk', image))).to.equal('\0'.repeat(512));
    }));

  it('vmdk-parent-cycle: a disk is not its own parent, nor its parent its delta', () =>
    within(({ put }) => {
      const delta = (parent: string): Uint8Array => vmdkNaming(['RW 1 ZERO'], parent);
      refused(put('a.vmdk', delta('a.vmdk')));
      put('b.vmdk', delta('a.vmdk'));
      refused(put('a.vmdk', delta('b.vmdk')));
      refused(put('a.vmdk', delta('../secret')));
      refused(put('a.vmdk', delta('C:\\Users\\secret.vmdk')));
    }));

  it('vmdk-extent-not-written: only what looks like an extent and lies beside its text is written with it', () =>
    within(({ home, put }) => {
      const file = (name: string): string => put(name, Buffer.from('the disk'.padEnd(512)));
      const content = (name: string): Buffer => fs.readFileSync(path.join(home, name));
      for (const name of ['flat.vmdk', 'sub/flat.vmdk', 'flat.qcow2', 'flat']) file(name);
      fs.symlinkSync('sub/flat.vmdk', path.join(home, 'link.vmdk'));
      fs.symlinkSync('flat', path.join(home, 'other.vmdk'));
      expect(look(put('a.vmdk', flat('flat.vmdk')), { write: 'own' })).to.include('the disk');
      for (const name of ['sub/flat.vmdk', 'flat.qcow2', 'flat', 'link.vmdk', 'other.vmdk']) {
        const [image, old] = [put('a.vmdk', flat(name)), content(name)];
        refused(image, { write: 'own' });
        expect(content(name).equals(old)).to.equal(true);
        expect(look(image, { write: 'trusted' })).to.include('the disk');
      }
    }));

  it('vmdk-lock-directory: a disk that a virtual machine uses is not written', () =>
    within(({ home, put }) => {
      put('flat.vmdk', Buffer.from('the disk'.padEnd(512)));
      const image = put('a.vmdk', flat('flat.vmdk'));
      for (const name of ['a.vmdk.lck', 'flat.vmdk.lck']) {
        fs.mkdirSync(path.join(home, name));
        expect(outcome(() => look(image, { write: 'own' }))).to.equal('locked');
        expect(look(image)).to.include('the disk');
        fs.rmdirSync(path.join(home, name));
      }
      expect(look(image, { write: 'own' })).to.include('the disk');
    }));
});

const NONE: GatePolicy = { follow: false, allowed: [] };
const STREAM = textOf('streamOptimized', ['RW 1 SPARSE "a.vmdk"']);

describe('hostile: what the extents of a vmdk claim', () => {
  it('bomb-vmdk-stream: a compressed grain yields one grain, however much is packed in it', () =>
    within(({ put }) => {
      const extent = new SampleExtent({ size: 2 ** 20, text: STREAM, grainSectors: 128, compressed: 'markers' });
      const { image, grainsAt } = extent.write(0, Buffer.alloc(65_536, 1)).build();
      const bomb = deflateZlib(Buffer.alloc(64 * 2 ** 20));
      const at = grainsAt.get(0) ?? 0;
      const bytes = Buffer.concat([image, Buffer.alloc(bomb.length)]);
      bytes.writeUInt32LE(bomb.length, at + 8);
      bytes.set(bomb, at + 12);
      const started = performance.now();
      expect(outcome(() => look(put('a.vmdk', bytes)))).to.equal('corrupt');
      bytes.writeUInt32LE(2 ** 32 - 1, at + 8);
      expect(outcome(() => look(put('a.vmdk', bytes)))).to.equal('corrupt');
      expect(performance.now() - started).to.be.lessThan(1000);
    }));

  it('vmdk-many-extents: 4096 extents are a disk, 4097 are not', () =>
    within(({ put }) => {
      const zeros = (count: number): Uint8Array => vmdkNaming(Array.from({ length: count }, () => 'RW 1 ZERO'));
      expect(look(put('a.vmdk', zeros(4096)))).to.equal('\0'.repeat(512));
      expect(outcome(() => look(put('a.vmdk', zeros(4097))))).to.equal('limit');
    }));

  it('vmdk-huge-directory: a directory for 2 PiB costs what is looked at of it', () =>
    within(({ put, home }) => {
      const { image } = new SampleExtent({ size: 4096, text: textOf('monolithicSparse', ['RW 8 SPARSE "a"']) }).build();
      image.writeBigUInt64LE(2n ** 42n, 12);
      image.writeBigUInt64LE(128n, 20);
      const file = put('a.vmdk', image);
      expect(outcome(() => look(file))).to.be.oneOf(['limit', 'truncated']);
      fs.truncateSync(path.join(home, 'a.vmdk'), 2 ** 33);
      const before = process.memoryUsage().rss;
      outcome(() => look(file));
      expect(process.memoryUsage().rss - before).to.be.lessThan(64 * 2 ** 20);
    }));

  it('vmdk-text-of-any-bytes: lines of any kind are one answer, soon', () =>
    within(({ put }) => {
      const lines = [
        'RW '.repeat(90_000),
        `${' '.repeat(300_000)}x`,
        'a='.repeat(150_000),
        `RW 1 FLAT "${'x '.repeat(99_999)}`,
      ];
      for (const line of lines) {
        const started = performance.now();
        outcome(() => look(put('a.vmdk', vmdkNaming(['RW 1 ZERO', line]))));
        expect(performance.now() - started, line.slice(0, 9)).to.be.lessThan(1000);
      }
    }));
});
