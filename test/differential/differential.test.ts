import fs from 'node:fs';
import { expect } from 'chai';
import { needsTool } from '../support/qemu.js';
import { scratch } from '../support/scratch.js';
import { DIFFERENCES } from './differences.js';
import { differenceVerdict, runBoth, verdict } from './judge.js';
import { Resident } from './resident.js';
import type { DifferentRow, Row } from './row.js';
import { makeStock } from './stock.js';
import { TABLES } from './tables.js';

/** At once: as many as the machine this is measured on has cores. */
const CREW = 2;

describe('imgfs in place of qemu-img', function () {
  this.timeout(120_000);
  needsTool('qemu-img', 'qemu-io');
  const directory = scratch();
  const crew: Resident[] = [];
  const verdicts = new Map<Row | DifferentRow, readonly string[]>();

  before(async function () {
    this.timeout(600_000);
    fs.mkdirSync(directory.path('stock'));
    makeStock(directory.path('stock'));
    const rows = [...Object.values(TABLES).flat(), ...DIFFERENCES.flatMap((one) => one.rows)];
    let taken = 0;
    const work = async (resident: Resident): Promise<void> => {
      for (let row = rows[taken++]; row !== undefined; row = rows[taken++]) {
        verdicts.set(row, await judge(row, resident, directory.path(`row-${taken}`)));
      }
    };
    for (let n = 0; n < CREW; n++) crew.push(new Resident(directory.path(`resident-${n}`)));
    await Promise.all(crew.map(work));
  });

  after(async () => {
    for (const resident of crew) await resident.end();
  });

  async function judge(row: Row | DifferentRow, resident: Resident, place: string): Promise<readonly string[]> {
    const stock = directory.path('stock');
    const both = await runBoth(row, resident, stock, place);
    const found = await ('imgfs' in row ? differenceVerdict(row, both, stock) : verdict(row, both, stock));
    fs.rmSync(place, { recursive: true });
    return found;
  }

  for (const { what, rows } of DIFFERENCES) {
    describe(`differs: ${what}`, () => {
      for (const row of rows) {
        it(row.line, () => {
          expect(verdicts.get(row)?.join('\n')).to.equal('');
        });
      }
    });
  }

  for (const [verb, rows] of Object.entries(TABLES)) {
    describe(verb, () => {
      for (const row of rows) {
        it(row.line, () => {
          expect(verdicts.get(row)?.join('\n')).to.equal('');
        });
      }
    });
  }
});
