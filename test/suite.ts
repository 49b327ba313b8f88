/** Runs the test files of one suite in this process and writes a Report to a file: REPORT FILE... */
import fs from 'node:fs';
import { inspect } from 'node:util';
import Mocha from 'mocha';
import type { Failure, Report } from './report.js';
import { tidy } from './support/garbage.js';

const LINES = 12;
const LINE = 240;

const [report = '', ...files] = process.argv.slice(2);
const mocha = new Mocha({ timeout: 120_000, color: process.stdout.isTTY });
for (const file of files) mocha.addFile(file);
await mocha.loadFilesAsync();
const failures: Failure[] = [];
const counts = await new Promise<Omit<Report, 'failures'>>((resolve) => {
  const runner = mocha.run(() => {
    const { passes = 0, failures: failed = 0, pending = 0 } = runner.stats ?? {};
    resolve({ passed: passes, failed, skipped: pending });
  });
  runner.on('test end', tidy);
  runner.on('fail', (test, error: unknown) => failures.push({ title: test.fullTitle(), why: messageOf(error) }));
});
fs.writeFileSync(report, JSON.stringify({ ...counts, failures } satisfies Report));
// A worker or a socket that a test forgot must not keep the suite alive.
process.exit(counts.failed > 0 ? 1 : 0);

/** As much as names the fault and its place: an assertion of two images can be megabytes long. */
function messageOf(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const lines = `${text}${difference(error)}`
    .split('\n')
    .map((line) => (line.length > LINE ? `${line.slice(0, LINE)}...` : line));
  return (lines.length > LINES ? [...lines.slice(0, LINES), '...'] : lines).join('\n');
}

/** The two sides of an assertion, which its message leaves out where they are large. */
function difference(error: unknown): string {
  if (!(error instanceof Error) || !('actual' in error) || !('expected' in error)) return '';
  const shown = (value: unknown): string => inspect(value, { breakLength: Number.POSITIVE_INFINITY, depth: 4 });
  return `\nfound:    ${shown(error.actual)}\nexpected: ${shown(error.expected)}`;
}
