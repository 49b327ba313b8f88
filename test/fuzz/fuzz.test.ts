import { expect } from 'chai';
import { hasTool } from '../support/scratch.js';
import { SEED } from '../support/seed.js';
import { fuzz } from './fuzzer.js';

/** Long enough for thousands of mutants, short enough for every run of the tests; `make fuzz` goes on. */
const SECONDS = Number(process.env.IMGFS_FUZZ_SECONDS ?? 25);

describe('fuzz', () => {
  it(`mutants of every specimen, for ${SECONDS} s`, function () {
    this.timeout((SECONDS + 60) * 1000);
    const compareEvery = hasTool('qemu-img') ? 20 : 0;
    const { failures, untriaged, ...counts } = fuzz({ seed: SEED, seconds: SECONDS, compareEvery });
    console.log(`      ${JSON.stringify(counts)}`);
    for (const found of untriaged) console.log(`      untriaged: ${found}`);
    if (compareEvery === 0) console.log('      not compared: qemu-img is not installed');
    expect(failures.join('\n')).to.equal('');
    expect(counts.cases).to.be.greaterThan(100);
    expect(counts.opened, 'mutants that still open').to.be.greaterThan(counts.cases / 20);
  });
});
