import type { Command } from 'commander';
import { ImgfsError } from '../lib/errors.js';

/** What `declareJsonOptions` adds to a command's options. */
export interface JsonFlags {
  readonly json?: true;
  readonly output?: string;
}

/** `--json`, and what qemu-img calls it. */
export function declareJsonOptions(command: Command): void {
  command.option('--json', 'print JSON').option('--output <form>', 'human or json');
}

/** Whether JSON is wanted. Throws `usage`. */
export function wantsJson({ json, output }: JsonFlags): boolean {
  if (output !== undefined && output !== 'human' && output !== 'json') {
    throw new ImgfsError('usage', `--output "${output}" is unknown`, { hint: 'human or json' });
  }
  return json === true || output === 'json';
}
