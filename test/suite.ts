/** Runs the test files of one suite in this process and writes the counts to a file: REPORT FILE... */
import fs from 'node:fs';
import Mocha from 'mocha';

const [report = '', ...files] = process.argv.slice(2);
const mocha = new Mocha({ timeout: 120_000, color: process.stdout.isTTY });
for (const file of files) mocha.addFile(file);
await mocha.loadFilesAsync();
const counts = await new Promise<{ passed: number; failed: number; skipped: number }>((resolve) => {
  const runner = mocha.run(() => {
    const { passes = 0, failures = 0, pending = 0 } = runner.stats ?? {};
    resolve({ passed: passes, failed: failures, skipped: pending });
  });
});
fs.writeFileSync(report, JSON.stringify(counts));
// A worker or a socket that a test forgot must not keep the suite alive.
process.exit(counts.failed > 0 ? 1 : 0);
