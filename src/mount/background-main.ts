/** Entry of the background process: reads its orders, mounts, reports once, serves until the end. */
import fs from 'node:fs';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { ANSWERS, AskedPassphrases } from './asking.js';
import { type Orders, REPORT, type Report } from './background.js';
import { live } from './life.js';
import { endSoon } from './uncaught.js';

/** Without a listener node answers it by opening a debugger, in a process that may hold keys. */
process.on('SIGUSR1', () => {});

const text = fs.readFileSync(0, 'utf8');
// The command was killed before it could say what to do.
if (text === '') process.exit(1);
const orders = JSON.parse(text) as Orders;
let reported = false;

function report(message: Report): void {
  reported = true;
  fs.writeSync(REPORT, `${JSON.stringify(message)}\n`);
  fs.closeSync(REPORT);
}

function log(line: string): void {
  process.stderr.write(`${new Date().toISOString()} ${line}\n`);
}

/** A log without a word in it is of no use to anybody. */
function removeEmptyLog(): void {
  const status = fs.statSync(orders.logFile, { throwIfNoEntry: false });
  if (status?.size === 0) fs.rmSync(orders.logFile, { force: true });
}

async function serve(): Promise<void> {
  let code = 0;
  try {
    await live({
      options: orders.options,
      logFile: orders.logFile,
      passphrases: new AskedPassphrases(),
      ready: (warnings) => {
        // The user's directory must be free to be removed by the time the command returns.
        process.chdir('/');
        fs.closeSync(ANSWERS);
        report({ live: true, warnings });
      },
      log,
    });
  } catch (error) {
    code = 1;
    log(errorLine(error));
    if (!(error instanceof ImgfsError) && error instanceof Error) log(error.stack ?? '');
    if (!reported) {
      const known = error instanceof ImgfsError ? error : new ImgfsError('system', `internal error: ${String(error)}`);
      report({ live: false, error: known.toJSON() });
    }
  }
  if (code === 0) removeEmptyLog();
  process.exitCode = code;
  endSoon();
}

void serve();
