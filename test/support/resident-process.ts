/**
 * imgfs that stays: a process that runs one command line after the other through the dispatcher, where a thousand starts
 * of node would take minutes. What it prints goes to its real standard output and error, which are files. For lines that
 * come to an end by themselves and leave nothing behind: no mounts, nothing that is killed.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const MAIN = path.join(import.meta.dirname, 'resident-main.js');

/** Its descriptors for jobs that come in, a line of JSON each, and for exit statuses that go out, a line each. */
export const JOBS = 3;
export const ANSWERS = 4;

export interface Job {
  readonly args: readonly string[];
  readonly cwd: string;
}

/** A file that takes what the process prints. */
export class Output {
  readonly fd: number;
  private seen = 0;

  constructor(file: string) {
    this.fd = fs.openSync(file, 'a+');
  }

  /** What was written since the last call. */
  added(): string {
    const bytes = Buffer.alloc(fs.fstatSync(this.fd).size - this.seen);
    fs.readSync(this.fd, bytes, 0, bytes.length, this.seen);
    this.seen += bytes.length;
    return bytes.toString();
  }

  close(): void {
    fs.closeSync(this.fd);
  }
}

/** It ends when nobody holds the other end of its jobs any more. */
export function startResident(
  outputs: readonly [out: Output, err: Output],
  jobs: number | 'pipe',
  answers: number | 'pipe',
): ChildProcess {
  const [out, err] = outputs;
  const stdio: StdioOptions = ['ignore', out.fd, err.fd, jobs, answers];
  return spawn(process.execPath, ['--enable-source-maps', MAIN], { stdio });
}
