/**
 * `make fuzz`: the fuzzer for IMGFS_FUZZ_SECONDS (60 unless told). IMGFS_SEED repeats a run, and with IMGFS_FUZZ_CASE
 * exactly one of its cases.
 */
import { SEED } from '../support/seed.js';
import { fuzz } from './fuzzer.js';

const { IMGFS_FUZZ_SECONDS = '60', IMGFS_FUZZ_CASE, IMGFS_FUZZ_COMPARE = '20' } = process.env;
const one = IMGFS_FUZZ_CASE !== undefined;
const report = fuzz({
  seed: SEED,
  seconds: one ? 0 : Number(IMGFS_FUZZ_SECONDS),
  ...(one ? { first: Number(IMGFS_FUZZ_CASE) } : {}),
  compareEvery: one ? 1 : Number(IMGFS_FUZZ_COMPARE),
});
const { failures, untriaged, ...counts } = report;
console.log(JSON.stringify(counts, undefined, 2));
for (const found of [...failures, ...untriaged]) console.error(found);
process.exitCode = failures.length + untriaged.length > 0 ? 1 : 0;
