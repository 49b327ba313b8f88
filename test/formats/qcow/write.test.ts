import { expect } from 'chai';
import { pack } from '../../../src/codec/pack.js';
import { qcow } from '../../../src/formats/qcow/index.js';
import { SampleImage } from '../../../src/formats/qcow/sample-image.js';
import { raw } from '../../../src/formats/raw/index.js';
import type { CheckReport } from '../../../src/image/check.js';
import type { Image } from '../../../src/image/image.js';
import { SharedImage } from '../../../src/image/shared-image.js';
import { Sharing } from '../../../src/image/sharing.js';
import { drained } from '../../../src/lib/steps.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import type { Storage } from '../../../src/storage/storage.js';
import { writePacked } from '../../crash/operations.js';
import { makeImage } from '../../support/creation.js';
import { closedContext, readAll } from '../../support/images.js';
import { scribble } from '../../support/scribble.js';
import { Random } from '../../support/seed.js';

const MIB = 1024 * 1024;
const CLUSTER = 4096;
/** Guest bytes of an L2 table. */
const SPAN = CLUSTER * 512;

function open(storage: Storage, sharing?: Sharing): Image {
  return qcow.open(storage, { ...closedContext(), writable: true, sharing });
}

function checked(storage: Storage): { readonly report: CheckReport; readonly told: readonly string[] } {
  const told: string[] = [];
  const options = { repair: 'none', tell: (finding: string) => told.push(finding) } as const;
  if (qcow.check === undefined) throw new Error('qcow has a check');
  return { report: drained(qcow.check(storage, closedContext(), options)), told };
}

/** A recipe's file in memory. */
function stored(recipe: SampleImage): MemoryStorage {
  return MemoryStorage.from(recipe.build().image);
}

describe('qcow, written', () => {
  it('takes only the space it needs, once it is closed', () => {
    const { storage } = makeImage(qcow, { size: 8 * MIB });
    const image = open(storage);
    image.write(new Uint8Array(CLUSTER * 3).fill(1), CLUSTER);
    image.close();
    // Header and L1, a table, three clusters.
    expect(storage.size()).to.equal(CLUSTER * 5);
    expect(checked(storage).told).to.deep.equal([]);
  });

  it('has nothing to lose where clusters are smaller than what L1 is filled up to', () => {
    const backing = { name: 'base', format: 'raw', image: undefined, modified: undefined };
    const { storage } = makeImage(qcow, { size: 8 * MIB, backing });
    const below = MemoryStorage.from(new Uint8Array(8 * MIB));
    const openImage = () => raw.open(below, closedContext());
    const image = qcow.open(storage, { ...closedContext(), writable: true, openImage });
    image.write(new Uint8Array(5000).fill(1), 700);
    image.close();
    expect(checked(storage).told).to.deep.equal([]);
  });

  it('puts compressed clusters one behind the other, tables between them, and reads them before they are published', () => {
    const disk = Buffer.alloc(3 * SPAN, 'lines of text that are much alike, ');
    const { storage } = makeImage(qcow, { size: disk.length });
    const image = open(storage);
    expect(image.packing).to.deep.equal({ unit: CLUSTER, method: 'deflate', always: false });
    writePacked(image, disk, 0);
    // An entry that waits is replaced by one that waits.
    disk.fill('others', SPAN, SPAN + CLUSTER);
    writePacked(image, disk.subarray(SPAN, SPAN + CLUSTER), SPAN);
    disk.fill('x', SPAN + 100, SPAN + 5000);
    image.write(disk.subarray(SPAN + 100, SPAN + 5000), SPAN + 100);
    expect(readAll(image).equals(disk)).to.equal(true);
    image.close();
    const streams = (pack('deflate', disk.subarray(0, CLUSTER))?.length ?? CLUSTER) * 3 * 512;
    expect(storage.size()).to.be.below(streams * 1.05 + 12 * CLUSTER);
    const again = open(storage);
    expect(readAll(again).equals(disk)).to.equal(true);
    again.close();
    expect(checked(storage).report).to.include({ corruptions: 0, leaks: 0 });
  });

  it('changes nothing when it is only read', () => {
    const storage = stored(new SampleImage({ size: MIB }).write(0, new Uint8Array(CLUSTER).fill(1)));
    const journal = new Journal();
    const image = open(journal.record(storage));
    readAll(image);
    image.flush();
    image.close();
    expect(journal.entries.filter(({ kind }) => kind !== 'flush')).to.deep.equal([]);
  });

  it('writes a sequence as few large writes: one for the data, one for the entries', () => {
    const journal = new Journal();
    const image = open(journal.record(makeImage(qcow, { size: 8 * MIB }).storage));
    image.write(new Uint8Array(CLUSTER).fill(1), 0);
    const before = journal.entries.length;
    image.write(new Uint8Array(64 * CLUSTER).fill(1), CLUSTER);
    const kinds = journal.entries.slice(before).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind === 'write')).to.have.length(2);
  });

  it('unpacks a compressed cluster into a new one and leaves its stream alone', () => {
    const recipe = new SampleImage({ size: MIB }).pack(0, new Uint8Array(CLUSTER).fill(5));
    const storage = stored(recipe);
    const before = storage.bytes();
    const image = open(storage);
    image.write(Uint8Array.of(1, 2, 3), 100);
    image.close();
    const disk = recipe.plain();
    disk.set([1, 2, 3], 100);
    expect(readAll(open(storage)).equals(disk)).to.equal(true);
    const after = storage.bytes().subarray(0, before.length);
    // Only the entry in the L2 table, the second cluster.
    after.fill(0, CLUSTER, CLUSTER + 8);
    before.fill(0, CLUSTER, CLUSTER + 8);
    expect(after.equals(before)).to.equal(true);
    // What the stream lay in is lost, and told.
    expect(checked(storage).report).to.include({ corruptions: 0, leaks: 1 });
  });

  it('gives discarded clusters back to the host and keeps their place', () => {
    const storage = stored(new SampleImage({ size: MIB }).write(0, new Uint8Array(CLUSTER * 64).fill(1)));
    const image = open(storage);
    const before = image.hostBytes();
    image.zero(0, CLUSTER * 64, { unmap: true });
    expect(image.hostBytes()).to.be.at.most(before - CLUSTER * 64);
    expect(readAll(image).every((byte) => byte === 0)).to.equal(true);
    const size = storage.size();
    image.write(new Uint8Array(CLUSTER * 64).fill(2), 0);
    image.close();
    expect(storage.size()).to.equal(size);
  });

  it('never writes data over a table: the image is damaged, reads go on', () => {
    // Over the second L2 table, and over an L1 table that reaches into the sector at 512.
    for (const [onto, size] of [
      ['L2', 2 * SPAN],
      ['L1', 200 * SPAN],
    ] as const) {
      const recipe = new SampleImage({ size }).write(0, new Uint8Array(CLUSTER * 2).fill(1));
      const { image: bytes, l2At } = recipe.write(SPAN, new Uint8Array(CLUSTER).fill(2)).build();
      const target = onto === 'L1' ? 512 : (l2At.get(1) ?? 0);
      bytes.writeBigUInt64BE(BigInt(target), l2At.get(0) ?? 0);
      const image = open(MemoryStorage.from(bytes));
      expect(() => image.write(Uint8Array.of(1), 0)).to.throw(/would have landed on a table/);
      expect(() => image.write(Uint8Array.of(1), CLUSTER)).to.throw(/not written any more/);
      image.read(new Uint8Array(CLUSTER), CLUSTER);
    }
  });

  it('an L1 table whose entries are cut by sectors is only read', () => {
    const { image: bytes, l1At } = new SampleImage({ size: MIB }).write(0, new Uint8Array(CLUSTER).fill(1)).build();
    bytes.copyWithin(l1At + 4, l1At, l1At + 8);
    bytes.writeUInt32BE(l1At + 4, 44);
    expect(readAll(qcow.open(MemoryStorage.from(bytes), closedContext()))[0]).to.equal(1);
    expect(() => open(MemoryStorage.from(bytes))).to.throw(/a crash could tear one/);
  });

  it('two threads see the same disk, tables and sizes', () => {
    const random = new Random();
    const recipe = new SampleImage({ size: 2 * SPAN, l2Bits: 6 }).pack(0, new Uint8Array(CLUSTER).fill(5));
    const storage = stored(recipe);
    const sharing = new Sharing();
    const threads = [0, 1, 2].map(() => new SharedImage(open(storage, sharing), sharing));
    let disk = Buffer.from(recipe.plain());
    for (const size of [2 * SPAN + CLUSTER, 5 * SPAN, 40 * SPAN]) {
      scribble(threads, disk, 150, random);
      random.pick(threads).resize(size);
      disk = Buffer.concat([disk, Buffer.alloc(size - disk.length)]);
      for (const thread of threads) expect(thread.size).to.equal(size);
    }
    scribble(threads, disk, 150, random);
    for (const thread of threads) expect(readAll(thread).equals(disk)).to.equal(true);
    for (const thread of threads) thread.close();
    expect(readAll(open(storage)).equals(disk)).to.equal(true);
    expect(checked(storage).report.corruptions).to.equal(0);
  });
});

describe('qcow, resized', () => {
  it('keeps L1 where it is while its sector has room', () => {
    const { storage } = makeImage(qcow, { size: SPAN });
    const before = storage.size();
    const image = open(storage);
    image.resize(20 * SPAN);
    expect(image.size).to.equal(20 * SPAN);
    image.close();
    expect(storage.size()).to.equal(before);
    expect(checked(storage).told).to.deep.equal([]);
  });

  it('moves L1 behind everything else where there is none', () => {
    const recipe = new SampleImage({ size: SPAN * 3 }).write(SPAN, new Uint8Array(CLUSTER).fill(7));
    const storage = stored(recipe);
    const image = open(storage);
    image.resize(100 * SPAN);
    image.write(Uint8Array.of(9), 99 * SPAN);
    image.close();
    const again = open(storage);
    const found = Buffer.alloc(1);
    again.read(found, SPAN);
    expect(found[0]).to.equal(7);
    again.read(found, 99 * SPAN);
    expect(found[0]).to.equal(9);
    expect(checked(storage).report.corruptions).to.equal(0);
  });

  it('refuses what the format cannot be: smaller, or larger than the limit', () => {
    const image = open(makeImage(qcow, { size: MIB }).storage);
    expect(() => image.resize(512)).to.throw(/cannot be made smaller/);
    expect(() => image.resize(2 ** 52)).to.throw(/the limit is/);
    expect(image.size).to.equal(MIB);
    image.write(Uint8Array.of(1), 0);
  });

  it('refuses to show what entries behind the end of the disk lead to', () => {
    const built = new SampleImage({ size: MIB }).write(0, new Uint8Array(CLUSTER).fill(1)).build();
    built.image.writeUInt32BE(CLUSTER * 2, (built.l2At.get(0) ?? 0) + 300 * 8 + 4);
    const image = open(MemoryStorage.from(built.image));
    expect(() => image.resize(2 * MIB)).to.throw(/behind the end of the disk/);
  });
});
