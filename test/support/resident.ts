/** The program for tests that start it hundreds of times: see resident-process.ts for what it cannot do. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Run } from './imgfs.js';
import { type Job, Output, startResident } from './resident-process.js';

/** Milliseconds until a line is given up, and between two looks at whether it has ended. */
const PATIENCE = 60_000;
const GLANCE = 1;

let running: Resident | undefined;

/** Runs `imgfs ...args` to its end in the resident process of this suite, which is started for the first. */
export function imgfs(args: readonly string[], options: { readonly cwd?: string } = {}): Run {
  running ??= new Resident();
  try {
    return running.run({ args, cwd: options.cwd ?? process.cwd() });
  } catch (error) {
    running = undefined;
    throw error;
  }
}

/** What a successful run printed as JSON. Throws what a failed one complained of. */
export function imgfsJson(args: readonly string[], options: { readonly cwd?: string } = {}): unknown {
  const { code, stdout, stderr } = imgfs(args, options);
  if (code !== 0) throw new Error(`imgfs ${args.join(' ')} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout);
}

/** Ends with this process, which holds the other ends of its pipes; its files have no names. */
class Resident {
  private readonly child: ChildProcess;
  private readonly jobs: number;
  private readonly answers: number;
  private readonly outputs: readonly [out: Output, err: Output];
  private readonly nothing = new Int32Array(new SharedArrayBuffer(4));

  constructor() {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-resident-'));
    const at = (name: string): string => path.join(directory, name);
    try {
      execFileSync('mkfifo', [at('jobs'), at('answers')]);
      this.outputs = [new Output(at('out')), new Output(at('err'))];
      const read = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK;
      const jobs = fs.openSync(at('jobs'), read);
      this.jobs = fs.openSync(at('jobs'), 'w');
      this.answers = fs.openSync(at('answers'), read);
      const answers = fs.openSync(at('answers'), 'w');
      this.child = startResident(this.outputs, jobs, answers);
      for (const fd of [jobs, answers]) fs.closeSync(fd);
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  }

  /** Nobody else may run meanwhile: waits without the event loop, as tests do for the program itself. */
  run(job: Job): Run {
    fs.writeSync(this.jobs, `${JSON.stringify(job)}\n`);
    const answer = Buffer.alloc(16);
    const deadline = performance.now() + PATIENCE;
    let length: number | undefined;
    while (length === undefined && performance.now() < deadline) {
      length = this.look(answer);
      if (length === undefined) Atomics.wait(this.nothing, 0, 0, GLANCE);
    }
    const [stdout = '', stderr = ''] = this.outputs.map((output) => output.added());
    if (length !== undefined && length > 0) return { code: Number(answer.toString('utf8', 0, length)), stdout, stderr };
    this.child.kill('SIGKILL');
    const how = length === undefined ? 'does not end' : 'ended the process it ran in';
    throw new Error(`imgfs ${job.args.join(' ')} ${how}: ${stderr}`);
  }

  /** How many bytes have come; 0 where nobody is left to send any. */
  private look(answer: Buffer): number | undefined {
    try {
      return fs.readSync(this.answers, answer);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
      throw error;
    }
  }
}
