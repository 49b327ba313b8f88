/** The process of resident-process.ts: does what the program does, for each job that comes. */
import fs from 'node:fs';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { dispatch } from '../../src/cli/dispatch.js';
import { OutputClosed } from '../../src/cli/output.js';
import { verbs } from '../../src/cli/verbs.js';
import { ANSWERS, JOBS, type Job } from './resident-process.js';

for await (const line of createInterface({ input: new Socket({ fd: JOBS, readable: true, writable: false }) })) {
  const { args, cwd } = JSON.parse(line) as Job;
  process.chdir(cwd);
  fs.writeSync(ANSWERS, `${await status(args)}\n`);
}

async function status(args: readonly string[]): Promise<number> {
  try {
    return await dispatch('imgfs', args, verbs, () => '');
  } catch (error) {
    if (!(error instanceof OutputClosed)) throw error;
    return 0;
  }
}
