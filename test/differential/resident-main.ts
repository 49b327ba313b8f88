/** The process of resident.ts: what main.ts does, for each job that comes. */
import { dispatch } from '../../src/cli/dispatch.js';
import { OutputClosed } from '../../src/cli/output.js';
import { verbs } from '../../src/cli/verbs.js';
import type { Job } from './resident.js';

process.on('message', async ({ args, cwd }: Job) => {
  process.chdir(cwd);
  process.send?.(await status(args));
});

async function status(args: readonly string[]): Promise<number> {
  try {
    return await dispatch('imgfs', args, verbs, () => '');
  } catch (error) {
    if (!(error instanceof OutputClosed)) throw error;
    return 0;
  }
}
