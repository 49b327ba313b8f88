/** Random writes, zeros, discards, snapshots, sizes and reopenings against a plain buffer. */
import { expect } from 'chai';
import { runCrew } from '../support/crew.js';
import { Random, SEED } from '../support/seed.js';
import { configurations } from './configurations.js';
import { runModel } from './model-run.js';
import { type Answer, type Order, WORKER } from './worker.js';

const OPERATIONS = Number(process.env.IMGFS_MODEL_OPERATIONS ?? 20_000);
const ONLY = process.env.IMGFS_MODEL_ONLY;

describe('model', function () {
  // Minutes, on a machine with nothing else to do.
  this.timeout(3_600_000);

  it(`agrees with every image over ${OPERATIONS} operations, and so does qemu-img`, async () => {
    const names = configurations().map(({ name }) => name);
    const answers: Answer[] = [];
    await runCrew<Order, Answer>({
      module: WORKER,
      orders: names
        .filter((name) => ONLY === undefined || name === ONLY)
        .map((configuration) => ({ configuration, operations: OPERATIONS, seed: SEED })),
      each: (answer) => answers.push(answer),
    });
    for (const { configuration, seconds, wrong } of answers) {
      console.log(`      ${configuration.padEnd(40)} ${seconds.toFixed(1).padStart(6)} s  ${wrong.length} wrong`);
    }
    const wrong = answers.flatMap((answer) => answer.wrong.map((what) => `${answer.configuration}: ${what}`));
    expect(wrong, `IMGFS_SEED=${SEED}\n${wrong.join('\n')}\n`).to.deep.equal([]);
  });
});

describe('the same operations at the same time of day', () => {
  const now = Date.now;
  afterEach(() => {
    Date.now = now;
  });

  for (const configuration of configurations()) {
    it(`make the same files, byte by byte: ${configuration.name}`, () => {
      const prints = [1, 2].map(() => {
        let time = 1_700_000_000_000;
        Date.now = () => time++;
        return runModel(configuration, 700, new Random(SEED)).files.map((file) => file.fingerprint());
      });
      expect(prints[1]).to.deep.equal(prints[0]);
    });
  }
});
