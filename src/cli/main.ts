/** The program. Only what every start needs is imported here: the dispatcher loads the rest. */
import fs from 'node:fs';
import { systemCode } from '../lib/errors.js';
import { dispatch } from './dispatch.js';
import { OutputClosed, reportError } from './output.js';
import { verbs } from './verbs.js';

function version(): string {
  const text = fs.readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  const described: unknown = JSON.parse(text);
  const found = typeof described === 'object' && described !== null && 'version' in described && described.version;
  return String(found);
}

/** Bugs outside of any verb's own flow (in callbacks) end the program as bugs inside do: with one line. */
process.on('uncaughtException', (error) => {
  if (error instanceof OutputClosed || systemCode(error) === 'EPIPE') process.exit(0);
  reportError(error);
  process.exit(1);
});

/** Without a listener node answers it by opening a debugger to whoever connects; `progress.ts` adds what it is for. */
process.on('SIGUSR1', () => {});

async function run(): Promise<void> {
  const [, program = 'imgfs', ...args] = process.argv;
  // All a verb began has ended, and all it said is written: node need not take its heap apart first.
  process.exit(await dispatch(program, args, verbs, version));
}

void run();
