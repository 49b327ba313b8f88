/** Runs the test files of one suite in this process and writes a Report to a file: REPORT FILE... */
import fs from 'node:fs';
import v8 from 'node:v8';
import vm from 'node:vm';
import Mocha from 'mocha';
import type { Failure, Report } from './report.js';

/** Bytes of garbage that are let lie: buffers of whole disks, which V8 is in no hurry to give back. */
const GARBAGE = 32 * 1024 * 1024;
const LINES = 12;
const LINE = 240;

// Only for a moment: what was compiled ahead is of use under the flags it was compiled under.
v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc') as () => void;
v8.setFlagsFromString('--no-expose-gc');

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
  // To start a process the kernel copies the tables of all memory this one has: 90 ms for 800 MB, 4 ms for little.
  let settled = process.memoryUsage.rss();
  runner.on('test end', () => {
    if (process.memoryUsage.rss() < settled + GARBAGE) return;
    collect();
    settled = process.memoryUsage.rss();
  });
  runner.on('fail', (test, error: unknown) => failures.push({ title: test.fullTitle(), why: messageOf(error) }));
});
fs.writeFileSync(report, JSON.stringify({ ...counts, failures } satisfies Report));
// A worker or a socket that a test forgot must not keep the suite alive.
process.exit(counts.failed > 0 ? 1 : 0);

/** As much as names the fault and its place: an assertion of two images can be megabytes long. */
function messageOf(error: unknown): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const lines = text.split('\n').map((line) => (line.length > LINE ? `${line.slice(0, LINE)}...` : line));
  return (lines.length > LINES ? [...lines.slice(0, LINES), '...'] : lines).join('\n');
}
