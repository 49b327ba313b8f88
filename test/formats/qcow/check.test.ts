import { expect } from 'chai';
import { qcow } from '../../../src/formats/qcow/index.js';
import { type BuiltSample, SampleImage } from '../../../src/formats/qcow/sample-image.js';
import type { CheckReport, Repair } from '../../../src/image/check.js';
import { drained } from '../../../src/lib/steps.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { closedContext } from '../../support/images.js';

const CLUSTER = 4096;

/** Three clusters in one table, a stream, and a second table. */
function sample(): BuiltSample {
  return new SampleImage({ size: CLUSTER * 1024 })
    .write(0, new Uint8Array(CLUSTER * 3).fill(1))
    .pack(CLUSTER * 5, new Uint8Array(CLUSTER).fill(2))
    .write(CLUSTER * 600, new Uint8Array(CLUSTER).fill(3))
    .build();
}

function checked(image: Buffer, repair: Repair = 'none'): CheckReport & { readonly told: readonly string[] } {
  const told: string[] = [];
  if (qcow.check === undefined) throw new Error('qcow has a check');
  const options = { repair, tell: (line: string) => told.push(line) };
  const report = drained(qcow.check(MemoryStorage.from(image), closedContext(), options));
  return { ...report, told };
}

/** What is told where entry `n` of the first L2 table (or of L1) is this. */
function withEntry(table: 'l1' | 'l2', n: number, value: number): readonly string[] {
  const { image, l1At, l2At } = sample();
  image.writeBigUInt64BE(BigInt(value), (table === 'l1' ? l1At : (l2At.get(0) ?? 0)) + n * 8);
  const { corruptions, told } = checked(image);
  expect(corruptions).to.be.greaterThan(0);
  return told;
}

describe('qcow check', () => {
  it('finds nothing wrong with a good image, and counts its clusters', () => {
    const { told, ...report } = checked(sample().image);
    expect(told).to.deep.equal([]);
    expect(report).to.include({ corruptions: 0, leaks: 0, checkErrors: 0 });
    expect(report.units).to.deep.equal({ total: 1024, allocated: 5, fragmented: 1, compressed: 1 });
  });

  it('sees a cluster used twice, and a cluster that is a table', () => {
    const { l2At } = sample();
    expect(withEntry('l2', 7, CLUSTER)[0]).to.match(/overlaps/);
    expect(withEntry('l2', 7, l2At.get(0) ?? 0)[0]).to.match(/overlaps/);
    expect(withEntry('l1', 0, l2At.get(1) ?? 0)[0]).to.match(/overlaps/);
  });

  it('sees what lies outside the file or between sectors', () => {
    expect(withEntry('l2', 7, 2 ** 30)[0]).to.match(/outside the file/);
    expect(withEntry('l2', 7, CLUSTER + 100)[0]).to.match(/misplaced/);
    expect(withEntry('l1', 1, 2 ** 30)[0]).to.match(/outside the file/);
    expect(withEntry('l1', 1, 2 ** 60)[0]).to.match(/misplaced/);
  });

  it('sees entries behind the end of the disk', () => {
    const { image, l2At } = sample();
    image.writeBigUInt64BE(BigInt(CLUSTER * 1000), 24);
    image.writeBigUInt64BE(BigInt(CLUSTER), (l2At.get(1) ?? 0) + 500 * 8);
    expect(checked(image).told.join()).to.match(/behind the end of the disk/);
  });

  it('tells space that nothing leads to', () => {
    const { image, l1At } = sample();
    image.fill(0, l1At + 8, l1At + 16);
    const { leaks, corruptions, told } = checked(image);
    expect({ leaks, corruptions }).to.deep.equal({ leaks: 2, corruptions: 0 });
    expect(told.every((line) => /^Leaked: \d+ bytes at \d+ belong to nothing$/.test(line))).to.equal(true);
  });

  it('mends nothing', () => {
    expect(() => checked(sample().image, 'leaks')).to.throw(/cannot be repaired/);
  });
});
