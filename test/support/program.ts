/** The real program and other commands, run to their end as a user would run them. */
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { tidy } from './garbage.js';
import { MAIN } from './imgfs.js';

/** The program's file. */
export { MAIN as IMGFS };

/** Long enough for a busy machine; a command that hangs fails its test and not the whole suite. */
const PATIENCE = 60_000;

export interface Ran {
  /** The exit status; 128 and the signal's number where a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command and returns how it went; never throws for a status. */
export function run(command: string, args: readonly string[], options: SpawnSyncOptions = {}): Ran {
  tidy();
  const environment = { ...process.env, LC_ALL: 'C', PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
  const ended = spawnSync(command, args, {
    timeout: PATIENCE,
    maxBuffer: 2 ** 26,
    ...options,
    env: { ...environment, ...options.env },
    encoding: 'utf8',
  });
  if (ended.error !== undefined) throw ended.error;
  const { status, signal, stdout, stderr } = ended;
  return { code: status ?? (signal === null ? -1 : 128), stdout: stdout ?? '', stderr: stderr ?? '' };
}

/** Runs a command that must succeed, and returns its standard output. */
export function must(command: string, ...args: readonly string[]): string {
  const { code, stdout, stderr } = run(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: status ${code}: ${stderr}${stdout}`);
  return stdout;
}

/** Runs imgfs. */
export function imgfs(...args: readonly string[]): Ran {
  return run(process.execPath, [MAIN, ...args]);
}
