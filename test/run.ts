/**
 * Runs the test suites: one mocha process per folder of test/ that holds tests, so that no suite can leave anything
 * behind in another. Suites that mount wait for the kernel as often as they work, so they run one after the other
 * beside those that only compute. Prints what each suite said when it is done, seconds per suite, what was skipped and
 * why, and one closing line.
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

/** Suites that need no mount, no loop device and no lock of the host. */
const COMPUTING = [
  'codec',
  'conformance',
  'crash',
  'faults',
  'fuzz',
  'hostile',
  'house',
  'model',
  'storage',
  'tree',
  'units',
];

async function runSuite(folder: string): Promise<Tally> {
  const suite = nameOf(folder);
  const report = path.join(scratch, `${suite.replaceAll(path.sep, '-')}.json`);
  const start = performance.now();
  const files = fs.readdirSync(folder).filter((name) => name.endsWith('.test.js'));
  const child = spawn(
    process.execPath,
    ['--enable-source-maps', path.join(HERE, 'suite.js'), report, ...files.map((name) => path.join(folder, name))],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  // Two suites at once would talk into each other.
  const said: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => said.push(bytes));
  const code = await new Promise<number>((resolve) => child.once('close', (status) => resolve(status ?? 1)));
  const seconds = (performance.now() - start) / 1000;
  process.stdout.write(`\n== ${suite}\n${Buffer.concat(said)}`);
  const counted = readReport(report);
  // A suite that died before it could count has failed, whatever it passed before.
  const failed = counted === undefined || (code !== 0 && counted.failed === 0) ? 1 : counted.failed;
  return { suite, passed: counted?.passed ?? 0, failed, skipped: counted?.skipped ?? 0, seconds };
}

async function runAll(folders: readonly string[]): Promise<void> {
  for (const folder of folders) tallies.push(await runSuite(folder));
}

function nameOf(folder: string): string {
  return path.relative(HERE, folder);
}

function isIn(folder: string, suite: string): boolean {
  const name = nameOf(folder);
  return name === suite || name.startsWith(`${suite}${path.sep}`);
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
const chosen = suites().filter((folder) => wanted.length === 0 || wanted.some((one) => isIn(folder, one)));
const computes = (folder: string): boolean => COMPUTING.some((one) => isIn(folder, one));
try {
  await Promise.all([runAll(chosen.filter((folder) => !computes(folder))), runAll(chosen.filter(computes))]);
} finally {
  fs.rmSync(scratch, { recursive: true, force: true });
}

console.log('\nsuite                          passed failed skipped seconds');
for (const { suite, passed, failed, skipped, seconds } of tallies.sort((a, b) => (a.suite < b.suite ? -1 : 1))) {
  const columns = [passed, failed, skipped].map((n) => String(n).padStart(7)).join('');
  console.log(`${suite.padEnd(30)}${columns} ${seconds.toFixed(1).padStart(7)}`);
}
const sum = (pick: (tally: Tally) => number): number => tallies.reduce((total, tally) => total + pick(tally), 0);
const failed = sum((tally) => tally.failed);
console.log(`\n${sum((t) => t.passed)} passed, ${failed} failed, ${sum((t) => t.skipped)} skipped`);
process.exitCode = failed > 0 || tallies.length === 0 ? 1 : 0;
