/** The built program as its users run it: a process of its own. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { tidy } from './garbage.js';

/** The program's file, for tests that start it in other ways. */
export const MAIN = fileURLToPath(new URL('../../src/imgfs.cjs', import.meta.url));

/** How a run ended. */
export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Options for node itself, before the program. */
  readonly node?: readonly string[];
  /** Another path to the program, such as a link. */
  readonly main?: string;
}

/** Runs `imgfs ...args` to its end, a minute at most. */
export function imgfs(args: readonly string[], options: RunOptions = {}): Run {
  tidy();
  const { cwd, env, node = [], main = MAIN } = options;
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [...node, main, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...env },
    ...(cwd === undefined ? {} : { cwd }),
  });
  if (error !== undefined) throw error;
  return { code: status, stdout, stderr };
}

/** What a successful run printed as JSON. Throws what a failed one complained of. */
export function imgfsJson(args: readonly string[], options: RunOptions = {}): unknown {
  const { code, stdout, stderr } = imgfs(args, options);
  if (code !== 0) throw new Error(`imgfs ${args.join(' ')} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout);
}
