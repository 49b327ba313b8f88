/** What a write leaves in the file, byte for byte: text, tables, what is refused, what is mended. */

import { expect } from 'chai';
import { check } from '../../../src/formats/vmdk/check.js';
import { vmdk } from '../../../src/formats/vmdk/index.js';
import { filled, pattern, textOf } from '../../../src/formats/vmdk/samples/catalogue.js';
import { type BuiltExtent, SampleExtent, type SparseOptions } from '../../../src/formats/vmdk/samples/sparse.js';
import type { CheckReport, Repair } from '../../../src/image/check.js';
import type { Image } from '../../../src/image/image.js';
import { drained } from '../../../src/lib/steps.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { readAll } from '../../support/images.js';
import { failure } from '../../support/outcome.js';
import { leftAfter } from '../../support/steps.js';
import { writableContext } from '../../support/written.js';

const TEXT = textOf('monolithicSparse', ['RW 128 SPARSE "disk.vmdk"']);
const SIZE = 65_536;
const UNIT = 4096;

function built(options: Partial<SparseOptions> = {}): BuiltExtent {
  return filled({ size: SIZE, text: TEXT, ...options }).build();
}

function open(storage: MemoryStorage): Image {
  return vmdk.open(storage, writableContext());
}

function checked(storage: MemoryStorage, repair: Repair = 'none'): CheckReport & { readonly told: readonly string[] } {
  const told: string[] = [];
  const report = drained(check(storage, writableContext(), { repair, tell: (line) => told.push(line) }));
  return { ...report, told };
}

const cidOf = (bytes: Buffer): string => /CID=(\w+)/.exec(bytes.toString('latin1'))?.[1] ?? '';

describe('vmdk: what a write leaves', () => {
  it('opening changes nothing, the first write changes eight digits of the text, once', () => {
    const text = TEXT.replace('# The Disk', 'unknown = "as it was"\r\n\t# The Disk');
    const { image: before } = built({ text });
    const storage = MemoryStorage.from(before);
    open(storage).close();
    expect(storage.bytes().equals(before)).to.equal(true);
    const image = open(storage);
    image.write(pattern(512, 1), 0);
    const first = cidOf(storage.bytes());
    image.write(pattern(512, 2), 512);
    image.close();
    const after = storage.bytes();
    expect(cidOf(after)).to.equal(first).and.not.equal(cidOf(before));
    expect(image.info.specific?.data.cid).to.equal(Number.parseInt(first, 16));
    const found = after.toString('latin1', 512, 512 + text.length);
    expect(found.replace(/CID=\w+/, '')).to.equal(text.replace(/CID=\w+/, ''));
  });

  it('a short CID stays as long as it is, and there is always another one', () => {
    for (let digit = 0; digit < 16; digit++) {
      const text = TEXT.replace(/\nCID=\w+/, `\nCID=${digit.toString(16)}`);
      const storage = MemoryStorage.from(built({ text }).image);
      const image = open(storage);
      image.write(pattern(512, 1), 0);
      image.close();
      expect(cidOf(storage.bytes()))
        .to.match(/^[0-9a-f]$/)
        .and.not.equal(digit.toString(16));
    }
  });

  it('the two copies of every table are equal, also where they were not before', () => {
    const { image: bytes, copiesAt, tablesAt } = built();
    const [table, copy] = [tablesAt.get(0) ?? 0, copiesAt.get(0) ?? 0];
    bytes.fill(0, copy, copy + 512);
    const storage = MemoryStorage.from(bytes);
    expect(checked(storage)).to.include({ corruptions: 0, leaks: 1 });
    const image = open(storage);
    image.write(pattern(UNIT * 3, 1), UNIT * 8 + 17);
    image.close();
    const after = storage.bytes();
    expect(after.subarray(copy, copy + 2048).equals(after.subarray(table, table + 2048))).to.equal(true);
    expect(checked(storage)).to.include({ corruptions: 0, leaks: 0 });
  });

  it('a disk whose tables say zeros takes zeros without storing them', () => {
    const storage = MemoryStorage.from(built({ version: 2, zeroGrains: true }).image);
    const image = open(storage);
    const before = storage.size();
    image.zero(0, SIZE, { unmap: true });
    image.close();
    expect(storage.size()).to.equal(before);
    expect(readAll(open(storage)).every((byte) => byte === 0)).to.equal(true);
  });

  it('a write that would land on a table is refused, and nothing is written any more', () => {
    const { image: bytes, tablesAt, copiesAt } = built();
    for (const at of [tablesAt.get(0) ?? 0, copiesAt.get(0) ?? 0]) bytes.writeUInt32LE(24, at);
    const storage = MemoryStorage.from(bytes);
    const image = open(storage);
    expect(failure(() => image.write(pattern(512, 1), 0))?.message).to.match(/landed on a table/);
    expect(failure(() => image.write(pattern(512, 1), UNIT))?.reason).to.equal('corrupt');
    expect(checked(storage).corruptions).to.be.greaterThan(0);
  });

  it('what can only be read is refused to writers, each for its reason', () => {
    const refusals: readonly (readonly [Partial<SparseOptions>, RegExp])[] = [
      [{ version: 3 }, /version 3 can only be read/],
      [{ compressed: 'markers' }, /compressed/],
      [{ kind: 'sesparse' }, /seSparse/],
      [{ unclean: true }, /did not finish/],
      [{ entriesPerTable: 100 }, /whole sectors/],
      [{ text: `${TEXT}changeTrackPath="disk-ctk.vmdk"\n` }, /keeps track/],
    ];
    for (const [options, why] of refusals) {
      const storage = MemoryStorage.from(built(options).image);
      expect(failure(() => open(storage))?.message).to.match(why);
    }
  });

  it('what lost one of its copies gets it back by a repair, and can be written again', () => {
    const damages: readonly ((built: BuiltExtent) => void)[] = [
      ({ image }) => image.writeUInt32LE(4_000_000, 48),
      ({ image }) => image.writeUInt32LE(4_000_000, 56),
      ({ image, directoryAt }) => image.writeUInt32LE(4_000_000, directoryAt),
      ({ image, redundantAt }) => image.writeUInt32LE(4_000_000, redundantAt),
    ];
    for (const damage of damages) {
      const made = built();
      const disk = filled({ size: SIZE, text: TEXT }).plain();
      damage(made);
      const storage = MemoryStorage.from(made.image);
      expect(checked(storage).corruptions).to.equal(1);
      for (let left = 1, ended = false; !ended; left++) {
        const other = storage.copy();
        ended = leftAfter(left, check(other, writableContext(), { repair: 'all', tell: () => {} }));
        expect(checked(other, 'all').corruptions, `left after ${left}`).to.equal(0);
        expect(readAll(open(other)).equals(disk)).to.equal(true);
      }
      expect(checked(storage, 'all')).to.include({ corruptions: 0, corruptionsFixed: 1 });
      const image = open(storage);
      expect(readAll(image).equals(disk)).to.equal(true);
      image.write(pattern(SIZE, 9), 0);
      image.close();
      expect(checked(storage).told).to.deep.equal([]);
      expect(readAll(open(storage)).equals(Buffer.from(pattern(SIZE, 9)))).to.equal(true);
    }
  });

  it('a repair calls clean what its writer left open, where nothing is wrong with it', () => {
    for (const kind of ['hosted', 'cowd'] as const) {
      const storage = MemoryStorage.from(built({ kind, unclean: true }).image);
      expect(failure(() => open(storage))?.reason).to.equal('corrupt');
      checked(storage, 'all');
      open(storage).close();
    }
    const { image: bytes, tablesAt } = built({ unclean: true });
    bytes.writeUInt32LE(24, tablesAt.get(0) ?? 0);
    const storage = MemoryStorage.from(bytes);
    checked(storage, 'all');
    expect(failure(() => open(storage))?.reason).to.equal('corrupt');
  });

  it('check sees what lies past the end, on tables, on each other, and what a transfer as text left', () => {
    const damages: readonly (readonly [(built: BuiltExtent) => void, RegExp])[] = [
      [({ image, tablesAt }) => image.writeUInt32LE(9_000_000, tablesAt.get(0) ?? 0), /past the end/],
      [({ image, tablesAt }) => image.writeUInt32LE(22, tablesAt.get(0) ?? 0), /lies on a table/],
      [
        ({ image, tablesAt }) => {
          const at = tablesAt.get(0) ?? 0;
          image.writeUInt32LE(image.readUInt32LE(at), at + 12);
        },
        /lies on another grain/,
      ],
      [
        ({ image, tablesAt }) => {
          const at = tablesAt.get(0) ?? 0;
          image.writeUInt32LE(image.readUInt32LE(at) + 3, at + 12);
        },
        /lies on another grain/,
      ],
      [({ image }) => image.writeUInt8(13, 73), /transfer as text/],
    ];
    for (const [damage, what] of damages) {
      const made = built();
      damage(made);
      const { corruptions, told } = checked(MemoryStorage.from(made.image));
      expect(corruptions, String(what)).to.be.greaterThan(0);
      expect(told.join('\n')).to.match(what);
    }
    expect(checked(MemoryStorage.from(built().image)).told).to.deep.equal([]);
  });

  it('a delta notices that its parent was written', () => {
    const parent = built().image;
    const cid = Number.parseInt(cidOf(parent), 16);
    const text = textOf('monolithicSparse', ['RW 128 SPARSE "disk.vmdk"'], 'base.vmdk', cid);
    const delta = new SampleExtent({ size: SIZE, text }).build().image;
    const below = MemoryStorage.from(parent);
    const over = (): Image =>
      vmdk.open(MemoryStorage.from(delta), {
        ...writableContext({ images: { 'base.vmdk': { bytes: below.bytes(), format: 'vmdk' } } }),
        writable: false,
      });
    over().close();
    const image = open(below);
    image.write(pattern(512, 1), 0);
    image.close();
    expect(failure(over)?.message).to.match(/was changed since/);
  });
});
