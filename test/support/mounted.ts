/** Mounts for tests: each in a child process, all of them gone at the end whatever happened. */
import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Job, Told } from './adapter-process.js';

const run = promisify(execFile);

/** The outcome of a program; never rejects. */
export interface Outcome {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs a program to its end (ten seconds at most), without blocking this process. */
export async function program(file: string, ...args: readonly string[]): Promise<Outcome> {
  const options = {
    encoding: 'buffer',
    maxBuffer: 2 ** 27,
    timeout: 10_000,
    env: { ...process.env, LC_ALL: 'C' },
  } as const;
  try {
    const { stdout, stderr } = await run(file, args, options);
    return { code: 0, stdout, stderr: stderr.toString() };
  } catch (error) {
    const failed = error as { code?: number; stdout?: Buffer; stderr?: Buffer };
    const code = typeof failed.code === 'number' ? failed.code : 255;
    return { code, stdout: failed.stdout ?? Buffer.alloc(0), stderr: failed.stderr?.toString() ?? String(error) };
  }
}

/** Line of the mount table (of process `pid`) for a mountpoint, split; undefined where nothing is mounted. */
export function mountEntry(mountpoint: string, pid: number | 'self' = 'self'): readonly string[] | undefined {
  const lines = readFileSync(`/proc/${pid}/mounts`, 'utf8').split('\n');
  return lines.map((line) => line.split(' ')).find(([, where]) => where === mountpoint);
}

/** One adapter process and its mountpoint. */
export class Mounted {
  readonly logs: string[] = [];
  readonly exited: Promise<number | null>;
  #unmounted: ((outcome: string) => void) | undefined;

  private constructor(
    readonly path: string,
    readonly process: ChildProcess,
    settle: (told: Told) => void,
  ) {
    this.exited = once(process, 'exit').then(([code]) => code as number | null);
    process.on('message', (told: Told) => {
      if ('log' in told) this.logs.push(told.log);
      else if ('unmounted' in told) this.#unmounted?.(told.unmounted);
      else settle(told);
    });
  }

  /**
   * The lines of its log that match, once there are `wanted` of them, or after five seconds: they come from another
   * process, after what they tell of.
   */
  async logged(wanted: number, pattern: RegExp): Promise<readonly string[]> {
    const found = (): readonly string[] => this.logs.filter((line) => pattern.test(line));
    for (let wait = 0; wait < 500 && found().length < wanted; wait++) await setTimeout(10);
    return found();
  }

  /**
   * Resolves when the mount is live; rejects with the line the adapter gave. `launcher` is a command that ends by
   * executing its further arguments in the same process, such as `unshare -m`.
   */
  static async start(module: string, name: string, job: Job, launcher: readonly string[] = []): Promise<Mounted> {
    const script = fileURLToPath(new URL('./adapter-process.js', import.meta.url));
    const [execPath = process.execPath, ...execArgv] = [...launcher, process.execPath];
    const child = fork(script, [module, name, JSON.stringify(job)], { execPath, execArgv });
    let settle: (told: Told) => void = () => {};
    const settled = new Promise<Told>((resolve) => {
      settle = resolve;
    });
    const mounted = new Mounted(job.mountpoint, child, settle);
    const died = mounted.exited.then((code): Told => ({ failed: `the process ended with ${code}` }));
    const told = await Promise.race([settled, died]);
    if ('failed' in told) {
      await mounted.exited;
      throw Object.assign(new Error(told.failed), { reason: told.reason });
    }
    return mounted;
  }

  /** Asks the adapter; `ok` or the reason it refused. */
  unmount(lazy: boolean): Promise<string> {
    const outcome = new Promise<string>((resolve) => {
      this.#unmounted = resolve;
    });
    this.process.send(lazy);
    return outcome;
  }

  /** For afterEach: lazily unmounts what is left and ends the process. */
  async clear(): Promise<void> {
    if (mountEntry(this.path) !== undefined) await program('umount', '-l', this.path);
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill('SIGKILL');
    await this.exited;
  }
}

/** A fresh mountpoint under the temporary directory, and how to remove it. */
export function mountpoint(kind: 'directory' | 'file'): { readonly path: string; remove(): void } {
  const top = mkdtempSync(join(tmpdir(), 'imgfs-test-'));
  const path = kind === 'directory' ? mkdtempSync(join(top, 'mnt-')) : join(top, 'file');
  if (kind === 'file') writeFileSync(path, '');
  return { path, remove: () => rmSync(top, { recursive: true }) };
}
