/** imgfs that stays, of which several can be at work at once: see resident-process.ts. */
import type { ChildProcess } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { Run } from '../support/imgfs.js';
import { ANSWERS, JOBS, type Job, Output, startResident } from '../support/resident-process.js';

interface Started {
  readonly child: ChildProcess;
  readonly answers: Interface;
}

/** Runs one job at a time. */
export class Resident {
  private readonly outputs: readonly [out: Output, err: Output];
  private started: Started | undefined;

  /** `stem` is where its two files of output are made. */
  constructor(stem: string) {
    this.outputs = [new Output(`${stem}.out`), new Output(`${stem}.err`)];
  }

  /** How it went. A process that ends in the middle of it is a failure without a code. */
  async run(job: Job): Promise<Run> {
    this.started ??= this.start();
    const { child, answers } = this.started;
    const code = await new Promise<number | null>((resolve) => {
      const done = (status: string): void => {
        answers.off('close', died);
        resolve(Number(status));
      };
      const died = (): void => {
        answers.off('line', done);
        resolve(null);
      };
      answers.once('line', done).once('close', died);
      (child.stdio[JOBS] as Writable).write(`${JSON.stringify(job)}\n`);
    });
    const [stdout = '', stderr = ''] = this.outputs.map((output) => output.added());
    return { code, stdout, stderr };
  }

  async end(): Promise<void> {
    const { child } = this.started ?? {};
    if (child !== undefined) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      (child.stdio[JOBS] as Writable).end();
      await ended;
    }
    for (const output of this.outputs) output.close();
  }

  private start(): Started {
    const child = startResident(this.outputs, 'pipe', 'pipe');
    const answers = createInterface({ input: child.stdio[ANSWERS] as Readable });
    answers.once('close', () => {
      this.started = undefined;
    });
    return { child, answers };
  }
}
