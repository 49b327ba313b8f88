/** Running `convert` in this process, and qemu-img beside it. */
import { spawnSync } from 'node:child_process';
import { Command } from 'commander';
import { verb } from '../../src/cli/convert.js';
import { errorLine } from '../../src/lib/errors.js';
import { tidy } from '../support/garbage.js';

/** The verb in this process, quiet: hundreds of command lines would else be hundreds of starts of node. */
export async function convert(...args: readonly string[]): Promise<{ readonly code: number; readonly error: string }> {
  try {
    const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
    verb.declare(command, 'verb');
    command.parse(args, { from: 'user' });
    return { code: await verb.run(command, 'verb'), error: '' };
  } catch (error) {
    return { code: 1, error: errorLine(error) };
  }
}

export function qemuConvert(...args: readonly string[]): number | null {
  tidy();
  return spawnSync('qemu-img', ['convert', ...args], { stdio: 'ignore' }).status;
}
