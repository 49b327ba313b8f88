/**
 * imgfs that stays: a process that runs one command line after the other through the dispatcher, where two hundred
 * starts of node would take a minute. What it prints goes to the real standard output and error, which are files.
 */
import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Run } from '../support/imgfs.js';

const MAIN = path.join(import.meta.dirname, 'resident-main.js');

export interface Job {
  readonly args: readonly string[];
  readonly cwd: string;
}

/** Runs one job at a time. */
export class Resident {
  private readonly outputs: readonly [out: Output, err: Output];
  private child: ChildProcess | undefined;

  /** `stem` is where its two files of output are made. */
  constructor(stem: string) {
    this.outputs = [new Output(`${stem}.out`), new Output(`${stem}.err`)];
  }

  /** How it went. A process that ends in the middle of it is a failure with the code it ended with. */
  async run(job: Job): Promise<Run> {
    this.child ??= this.start();
    const { child } = this;
    const code = await new Promise<number | null>((resolve) => {
      const done = (status: unknown): void => {
        child.off('message', done).off('exit', died);
        resolve(typeof status === 'number' ? status : null);
      };
      const died = (status: number | null): void => {
        this.child = undefined;
        done(status);
      };
      child.on('message', done).on('exit', died);
      child.send(job);
    });
    const [stdout = '', stderr = ''] = this.outputs.map((output) => output.added());
    return { code, stdout, stderr };
  }

  async end(): Promise<void> {
    const { child } = this;
    if (child !== undefined) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.disconnect();
      await ended;
    }
    for (const output of this.outputs) output.close();
  }

  private start(): ChildProcess {
    const [out, err] = this.outputs;
    return fork(MAIN, { stdio: ['ignore', out.fd, err.fd, 'ipc'], execArgv: ['--enable-source-maps'] });
  }
}

class Output {
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
