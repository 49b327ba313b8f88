/** Where the benchmark works, and how everything it started is gone again whatever happens. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Images, their copy as a raw file and the largest temporary of qemu-img. */
const BYTES_NEEDED = 4 * 2 ** 30;
const MEMORY_DISK = '/dev/shm';
const DISK = '/var/tmp';

const undo: (() => void)[] = [];
let running: ChildProcess | undefined;

/** Registers what takes back something done; the last is called first. Must not wait for anything else. */
export function afterwards(step: () => void): void {
  undo.push(step);
}

/** Calls what `afterwards` was given, once. A step that fails does not keep the others from being done. */
export function cleanUp(): void {
  running?.kill('SIGKILL');
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    try {
      step();
    } catch (error) {
      console.error(`cleaning up: ${String(error)}`);
    }
  }
}

/** Ctrl-C and kill end the benchmark as its own end does. */
export function cleanUpOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      cleanUp();
      process.exit(128 + os.constants.signals[signal]);
    });
  }
}

/**
 * A directory of our own. In memory where there is room: the image is then warm for everybody, always. Elsewhere the
 * host's page cache decides, which no benchmark controls. IMGFS_BENCH_DIR chooses another place.
 */
export function workplace(): string {
  const top = process.env.IMGFS_BENCH_DIR ?? (room(MEMORY_DISK) > BYTES_NEEDED ? MEMORY_DISK : os.tmpdir());
  const directory = fs.mkdtempSync(path.join(top, 'imgfs-bench-'));
  afterwards(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A directory of our own where flushes reach a disk, if the machine has one: IMGFS_BENCH_DISK, or /var/tmp. */
export function onDisk(): string {
  const directory = fs.mkdtempSync(path.join(process.env.IMGFS_BENCH_DISK ?? DISK, 'imgfs-bench-'));
  afterwards(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function room(directory: string): number {
  try {
    const { bavail, bsize } = fs.statfsSync(directory);
    return bavail * bsize;
  } catch {
    return 0;
  }
}

/** Runs a program to its end and returns what it printed. Throws with its standard error when it fails. */
export async function run(program: string, args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
  running = child;
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said.stderr += text;
  });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  running = undefined;
  if (code !== 0) throw new Error(`${program} ${args.join(' ')}: ${said.stderr.trim()}`);
  return said;
}

/** Whether a program is there. */
export function installed(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0;
}
