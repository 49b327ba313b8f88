/**
 * Runs the test suites: one mocha process per folder of test/ that holds tests, so that no suite can leave anything
 * behind in another, two at a time. Prints what each said when it is done; at the end the seconds per suite, every
 * failure once more, and one closing line.
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

/**
 * Suites that mount, one at a time: a namespace that one of them makes for itself has copies of the mounts of the
 * others, which are busy for as long as it lives.
 */
const MOUNTING = [
  'mount',
  'cli',
  'differential',
  'appliance',
  'formats/ova',
  'formats/vmdk',
  'kills',
  'fuse',
  'fuse/kernel',
  'fuse/fuse-native',
];

/** What takes long among the others, in the order in which it is begun: with short ones last, both lanes end together. */
const LONG = ['crash', 'faults', 'model', 'formats/qcow2', 'hostile', 'conformance', 'formats/luks', 'convert'];

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

/** Takes the next suite until there is none: one that mounts wherever none is mounting, or else one that does not. */
async function runLane(mounting: string[], others: string[]): Promise<void> {
  for (;;) {
    const mounts = !isMounting && mounting.length > 0;
    const folder = mounts ? mounting.shift() : others.shift();
    if (folder === undefined) return;
    if (mounts) isMounting = true;
    tallies.push(await runSuite(folder));
    if (mounts) isMounting = false;
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

/** Those of a list first, in its order. */
function inOrder(folders: readonly string[], list: readonly string[]): string[] {
  const place = (folder: string): number => [...list, nameOf(folder)].indexOf(nameOf(folder));
  return folders.toSorted((a, b) => place(a) - place(b));
}

const wanted = process.argv.slice(2);
const seed = process.env.IMGFS_SEED ?? String(Math.floor(Math.random() * 2 ** 31));
process.env.IMGFS_SEED = seed;
console.log(`IMGFS_SEED=${seed}`);
// Where it is set, every node that starts reads these certificates first, which doubles its start. Nothing speaks TLS.
delete process.env.NODE_EXTRA_CA_CERTS;

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-run-'));
const tallies: Tally[] = [];
const chosen = suites().filter((folder) => wanted.length === 0 || wanted.some((one) => isIn(folder, one)));
const mounts = (folder: string): boolean => MOUNTING.includes(nameOf(folder));
const mounting = inOrder(chosen.filter(mounts), MOUNTING);
const others = inOrder(
  chosen.filter((folder) => !mounts(folder)),
  LONG,
);
let isMounting = false;
try {
  await Promise.all(Array.from({ length: LANES }, () => runLane(mounting, others)));
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
