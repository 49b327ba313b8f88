import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { expect } from 'chai';
import { check } from '../../../src/formats/qcow2/check/check.js';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { goodSamples } from '../../../src/formats/qcow2/samples/catalogue.js';
import type { CheckReport, Repair } from '../../../src/image/check.js';
import { drained } from '../../../src/lib/steps.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { damage, damageable, damageRefcounts } from '../../support/damage.js';
import { closedContext, readAll } from '../../support/images.js';
import { needsTool, qemuImg } from '../../support/qemu.js';
import { scratch } from '../../support/scratch.js';
import { Random, SEED } from '../../support/seed.js';
import { leftAfter } from '../../support/steps.js';

interface QemuReport {
  readonly corruptions?: number;
  readonly leaks?: number;
  readonly 'check-errors': number;
  readonly 'image-end-offset'?: number;
  readonly 'total-clusters'?: number;
  readonly 'allocated-clusters'?: number;
  readonly 'fragmented-clusters'?: number;
  readonly 'compressed-clusters'?: number;
}

/** qemu-img's answer; undefined where it cannot open the image at all. */
function qemuCheck(file: string, ...options: readonly string[]): { code: number; report?: QemuReport } {
  const done = spawnSync('qemu-img', ['check', '--output=json', '-f', 'qcow2', ...options, file], { encoding: 'utf8' });
  const at = done.stdout.indexOf('{');
  return { code: done.status ?? -1, ...(at < 0 ? {} : { report: JSON.parse(done.stdout.slice(at)) as QemuReport }) };
}

function ourCheck(bytes: Uint8Array, repair: Repair = 'none'): { report: CheckReport; bytes: Buffer; said: string[] } {
  const storage = MemoryStorage.from(bytes);
  const said: string[] = [];
  const options = { repair, tell: (line: string) => said.push(line) };
  const report = drained(check(storage, { ...closedContext(), writable: true }, options));
  return { report, bytes: storage.bytes(), said };
}

function codeOf(report: CheckReport): number {
  if (report.checkErrors > 0) return 1;
  if (report.corruptions > 0) return 2;
  return report.leaks > 0 ? 3 : 0;
}

describe('qcow2 check beside qemu-img check', () => {
  const files = scratch();
  needsTool('qemu-img', 'qemu-io');

  it('finds nothing in good samples, and counts clusters alike', () => {
    for (const sample of goodSamples()) {
      const file = files.path('good.qcow2');
      fs.writeFileSync(file, sample.image);
      const theirs = qemuCheck(file);
      const { report, said } = ourCheck(sample.image);
      expect(codeOf(report), `${sample.name}: ${said.join('; ')}`).to.equal(theirs.code);
      if (theirs.code === 0) expectSameNumbers(report, theirs.report, sample.name);
    }
  });

  it('agrees on images with damage in their tables', () => {
    const random = new Random(SEED);
    const original = damageable(files.path('original.qcow2'));
    const tally = { same: 0, differ: [] as string[] };
    for (let round = 0; round < 150; round++) {
      const bytes = Buffer.from(original.bytes);
      const where: string[] = [];
      for (let n = 0; n <= random.below(3); n++) where.push(damage(bytes, original.tables, random));
      const file = files.path('damaged.qcow2');
      fs.writeFileSync(file, bytes);
      const theirs = qemuCheck(file);
      let ours: number;
      let said: readonly string[] = [];
      try {
        const checked = ourCheck(bytes);
        ours = codeOf(checked.report);
        said = checked.said;
      } catch {
        ours = 1;
      }
      if (ours === theirs.code) tally.same++;
      else tally.differ.push(`${where.join(', ')}: qemu ${theirs.code}, we ${ours}: ${said.join('; ').slice(0, 300)}`);
    }
    expect(tally.differ.join('\n'), `seed ${SEED}`).to.equal('');
  });

  it('repairs what qemu-img then finds sound, and changes no guest byte', () => {
    const random = new Random(SEED + 1);
    const original = damageable(files.path('original.qcow2'));
    for (let round = 0; round < 40; round++) {
      const bytes = Buffer.from(original.bytes);
      const where = damageRefcounts(bytes, original, random);
      const mended = ourCheck(bytes, 'all');
      const file = files.path('mended.qcow2');
      fs.writeFileSync(file, mended.bytes);
      expect(qemuCheck(file).code, `${where} (seed ${SEED}): ${mended.said.join('; ')}`).to.equal(0);
      qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', file, files.path('original.qcow2'));
    }
  });

  it('a repair that is left after any of its steps can be taken up again, and has changed no guest byte', () => {
    const random = new Random(SEED + 2);
    const original = damageable(files.path('original.qcow2'));
    const disk = readAll(qcow2.open(MemoryStorage.from(original.bytes), closedContext()));
    for (let round = 0; round < 10; round++) {
      const bytes = Buffer.from(original.bytes);
      const where = damageRefcounts(bytes, original, random);
      for (let left = 1, ended = false; !ended; left++) {
        const storage = MemoryStorage.from(bytes);
        ended = leftAfter(
          left,
          check(storage, { ...closedContext(), writable: true }, { repair: 'all', tell: () => {} }),
        );
        const what = `${where}, left after ${left} (seed ${SEED})`;
        expect(readAll(qcow2.open(storage.copy(), closedContext())).equals(disk), what).to.equal(true);
        expect(codeOf(ourCheck(storage.bytes(), 'all').report), what).to.equal(0);
      }
    }
  });

  it('a new refcount structure that was not switched to is cut off again', () => {
    const { bytes, tables } = damageable(files.path('original.qcow2'));
    bytes.writeBigUInt64BE(512n, tables[2]?.[0] ?? 0);
    const sizes = new Set<number>();
    for (let left = 1, ended = false; !ended; left++) {
      const storage = MemoryStorage.from(bytes);
      let longest = 0;
      const options = { repair: 'all', tell: () => {} } as const;
      const steps = check(storage, { ...closedContext(), writable: true }, options);
      ended = leftAfter(left, steps, () => {
        longest = Math.max(longest, storage.size());
      });
      if (longest > bytes.length && !ended) sizes.add(storage.size());
    }
    expect(sizes.has(bytes.length)).to.equal(true);
  });
});

function expectSameNumbers(report: CheckReport, theirs: QemuReport | undefined, what: string): void {
  expect(
    [report.units.total, report.units.allocated, report.units.fragmented, report.units.compressed, report.imageEnd],
    what,
  ).to.deep.equal([
    theirs?.['total-clusters'] ?? 0,
    theirs?.['allocated-clusters'] ?? 0,
    theirs?.['fragmented-clusters'] ?? 0,
    theirs?.['compressed-clusters'] ?? 0,
    theirs?.['image-end-offset'],
  ]);
}
