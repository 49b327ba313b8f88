import { Option } from 'commander';
import { ImgfsError } from '../lib/errors.js';
import { endMount } from '../mount/end.js';
import { reportError } from './output.js';
import { OWN_CODES, type Verb } from './verb.js';

interface Options {
  readonly lazy?: true;
  readonly timeout: number;
}

/** `imgfs umount`: returns when the mount, its process and its locks are gone. */
export const verb: Verb = {
  exitCodes: OWN_CODES,
  declare(command) {
    command.argument('<mountpoints...>', 'where imgfs is mounted');
    command.option('-l, --lazy', 'detach now, end when the last user is gone');
    command.addOption(
      new Option('--timeout <seconds>', 'how long to wait for the end').default(30).argParser(parseSeconds),
    );
  },
  async run(command) {
    const { lazy, timeout } = command.opts<Options>();
    let code = 0;
    for (const mountpoint of command.args) {
      try {
        await endMount(mountpoint, { lazy: lazy === true, timeoutMs: timeout * 1000 });
      } catch (error) {
        // The others are still to be ended.
        reportError(error);
        code = OWN_CODES.failure;
      }
    }
    return code;
  },
};

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (/^[0-9]+(\.[0-9]+)?$/.test(text) && Number.isFinite(seconds)) return seconds;
  throw new ImgfsError('usage', `"${text}" is no number of seconds`);
}
