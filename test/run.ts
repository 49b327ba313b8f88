/**
 * Runs the test suites: one mocha process per folder of test/ that holds tests, so that no suite can leave anything
 * behind in another, two at a time. Every suite works in directories, on mountpoints and with loop devices of its own,
 * so any two may run at once. Prints what each said when it is done; at the end the seconds per suite, every failure
 * once more, and one closing line.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Failure, Report } from './report.js';

interface Tally extends Report {
  readonly suite: string;
  readonly seconds: number;
}

const HERE = path.dirname(fileURLToPath(import.meta.url));

/** Folders with tests in them, deepest folders included, each a suite. */
function suites(folder = HERE): readonly string[] {
  const entries = fs.readdirSync(folder, { withFileTypes: true });
  const own = entries.some((entry) => entry.name.endsWith('.test.js')) ? [folder] : [];
  return [...own, ...entries.filter((entry) => entry.isDirectory()).flatMap((e) => suites(path.join(folder, e.name)))];
}

/** As many as the machine that CI gives has cores. */
const LANES = 2;

/** Lines shown of what a suite said that died. */
const TAIL = 20;

/** What takes a minute and more, longest first: begun in this order, short ones last, both lanes end together. */
const LONG = [
  'crash',
  'mount',
  'cli',
  'faults',
  'model',
  'formats/qcow2',
  'differential',
  'hostile',
  'conformance',
  'appliance',
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
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  const seconds = (performance.now() - start) / 1000;
  process.stdout.write(`\n== ${suite}\n${Buffer.concat(said)}`);
  const counted = readReport(report);
  const ended = counted !== undefined && (code === 0 || counted.failed > 0);
  return { suite, seconds, ...(ended ? counted : died(code, said)) };
}

/** A suite that ended otherwise than by its own account has failed, whatever it passed before. */
function died(code: number | null, said: readonly Buffer[]): Report {
  const last = Buffer.concat(said).toString().trimEnd().split('\n').slice(-TAIL);
  const failure: Failure = { title: `ended with ${code ?? 'a signal'} in the middle`, why: last.join('\n') };
  return { passed: 0, failed: 1, skipped: 0, failures: [failure] };
}

/** Takes the next suite until there is none. */
async function runLane(waiting: string[]): Promise<void> {
  for (let folder = waiting.shift(); folder !== undefined; folder = waiting.shift()) {
    tallies.push(await runSuite(folder));
  }
}

function nameOf(folder: string): string {
  return path.relative(HERE, folder);
}

function isIn(folder: string, suite: string): boolean {
  const name = nameOf(folder);
  return name === suite || name.startsWith(`${suite}${path.sep}`);
}

function readReport(file: string): Report | undefined {
  if (!fs.existsSync(file)) return undefined;
  const report = JSON.parse(fs.readFileSync(file, 'utf8')) as Report;
  fs.rmSync(file);
  return report;
}

/** Its place among what is begun: long ones in their order, then the others. */
function rank(folder: string): number {
  const place = LONG.indexOf(nameOf(folder));
  return place < 0 ? LONG.length : place;
}

const wanted = process.argv.slice(2);
const seed = process.env.IMGFS_SEED ?? String(Math.floor(Math.random() * 2 ** 31));
process.env.IMGFS_SEED = seed;
console.log(`IMGFS_SEED=${seed}`);

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-run-'));
const tallies: Tally[] = [];
const chosen = suites().filter((folder) => wanted.length === 0 || wanted.some((one) => isIn(folder, one)));
const waiting = chosen.toSorted((a, b) => rank(a) - rank(b));
try {
  await Promise.all(Array.from({ length: LANES }, () => runLane(waiting)));
} finally {
  fs.rmSync(scratch, { recursive: true, force: true });
}

console.log('\nsuite                          passed failed skipped seconds');
for (const { suite, passed, failed, skipped, seconds } of tallies.sort((a, b) => (a.suite < b.suite ? -1 : 1))) {
  const columns = [passed, failed, skipped].map((n) => String(n).padStart(7)).join('');
  console.log(`${suite.padEnd(30)}${columns} ${seconds.toFixed(1).padStart(7)}`);
}
for (const { suite, failures } of tallies) {
  for (const { title, why } of failures) console.log(`\nFAILED ${suite}: ${title}\n${why.replaceAll(/^/gm, '  ')}`);
}
const sum = (pick: (tally: Tally) => number): number => tallies.reduce((total, tally) => total + pick(tally), 0);
const failed = sum((tally) => tally.failed);
console.log(`\n${sum((t) => t.passed)} passed, ${failed} failed, ${sum((t) => t.skipped)} skipped`);
process.exitCode = failed > 0 || tallies.length === 0 ? 1 : 0;
