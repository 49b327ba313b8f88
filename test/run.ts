/**
 * Runs the test suites: one mocha process per folder of test/ that holds tests, so that no suite can leave anything
 * behind in another. Prints seconds per suite, what was skipped and why, and one closing line.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

interface Tally {
  readonly suite: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
}

const HERE = path.dirname(fileURLToPath(import.meta.url));

/** Folders with tests in them, deepest folders included, each a suite. */
function suites(folder = HERE): readonly string[] {
  const entries = fs.readdirSync(folder, { withFileTypes: true });
  const own = entries.some((entry) => entry.name.endsWith('.test.js')) ? [folder] : [];
  return [...own, ...entries.filter((entry) => entry.isDirectory()).flatMap((e) => suites(path.join(folder, e.name)))];
}

async function runSuite(folder: string, report: string): Promise<Tally> {
  const suite = path.relative(HERE, folder);
  const start = performance.now();
  console.log(`\n== ${suite}`);
  const files = fs.readdirSync(folder).filter((name) => name.endsWith('.test.js'));
  const child = spawn(
    process.execPath,
    ['--enable-source-maps', path.join(HERE, 'suite.js'), report, ...files.map((name) => path.join(folder, name))],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  const code = await new Promise<number>((resolve) => child.once('exit', (status) => resolve(status ?? 1)));
  const seconds = (performance.now() - start) / 1000;
  const counted = readReport(report);
  // A suite that died before it could count has failed, whatever it passed before.
  const failed = counted === undefined || (code !== 0 && counted.failed === 0) ? 1 : counted.failed;
  return { suite, passed: counted?.passed ?? 0, failed, skipped: counted?.skipped ?? 0, seconds };
}

function readReport(file: string): { passed: number; failed: number; skipped: number } | undefined {
  if (!fs.existsSync(file)) return undefined;
  const counted = JSON.parse(fs.readFileSync(file, 'utf8')) as { passed: number; failed: number; skipped: number };
  fs.rmSync(file);
  return counted;
}

const wanted = process.argv.slice(2);
const seed = process.env.IMGFS_SEED ?? String(Math.floor(Math.random() * 2 ** 31));
process.env.IMGFS_SEED = seed;
console.log(`IMGFS_SEED=${seed}`);

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-run-'));
const tallies: Tally[] = [];
try {
  for (const folder of suites()) {
    const name = path.relative(HERE, folder);
    if (wanted.length > 0 && !wanted.some((one) => name === one || name.startsWith(`${one}/`))) continue;
    tallies.push(await runSuite(folder, path.join(scratch, 'report.json')));
  }
} finally {
  fs.rmSync(scratch, { recursive: true, force: true });
}

console.log('\nsuite                          passed failed skipped seconds');
for (const { suite, passed, failed, skipped, seconds } of tallies) {
  const columns = [passed, failed, skipped].map((n) => String(n).padStart(7)).join('');
  console.log(`${suite.padEnd(30)}${columns} ${seconds.toFixed(1).padStart(7)}`);
}
const sum = (pick: (tally: Tally) => number): number => tallies.reduce((total, tally) => total + pick(tally), 0);
const failed = sum((tally) => tally.failed);
console.log(`\n${sum((t) => t.passed)} passed, ${failed} failed, ${sum((t) => t.skipped)} skipped`);
process.exitCode = failed > 0 || tallies.length === 0 ? 1 : 0;
