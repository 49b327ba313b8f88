/**
 * The background process of a mount, seen from the command: start it, wait until it is live or has failed, and tell.
 * Options go down a pipe, never the command line; one line of JSON comes back, after those that ask for passphrases.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type ErrorRecord, ImgfsError } from '../lib/errors.js';
import { libc } from '../lib/libc.js';
import { ANSWERS, answer, type LentPassphrases, type Question } from './asking.js';
import type { MountOptions } from './options.js';
import { newLogFile } from './records.js';

/** What the background process is told on its standard input. */
export interface Orders {
  readonly options: MountOptions;
  readonly logFile: string;
}

/** What it answers, once, on descriptor REPORT. */
export type Report =
  | { readonly live: true; readonly warnings: readonly string[] }
  | { readonly live: false; readonly error: ErrorRecord };

export const REPORT = 3;

/**
 * Mounts in a process of its own and returns when the mount is live, with warnings about the opening. Throws what the
 * process reported; a process that dies without a word is told as such, with its log.
 */
export async function mountInBackground(
  options: MountOptions,
  passphrases: LentPassphrases,
): Promise<readonly string[]> {
  // Before the mount is live a signal ends it; afterwards the command has succeeded and is about to say so.
  let isLive = false;
  let stoppedBy: NodeJS.Signals | undefined;
  let child: ChildProcess | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    if (isLive) return;
    stoppedBy ??= signal;
    child?.kill('SIGTERM');
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  const logFile = newLogFile();
  // Inherited by every thread there will be, those of Node too: one that is there already can no longer be told.
  if (options.access !== 'ro') libc()?.becomeFlusher();
  child = start(logFile);
  try {
    child.stdin?.on('error', () => {});
    child.stdin?.end(JSON.stringify({ options, logFile } satisfies Orders));
    const died = new Promise<string>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    let refusal: unknown;
    const said = await reported(child.stdio[REPORT] as Readable, (question) => {
      refusal ??= answer(question, passphrases, child?.stdio[ANSWERS] as Writable);
    });
    if (said === undefined) throw silentDeath(await died, logFile);
    if (!said.live) {
      await died;
      throw refusal ?? ImgfsError.fromJSON(said.error);
    }
    // The request crossed the answer: the mount was live for a moment.
    if (stoppedBy !== undefined) {
      await died;
      throw new ImgfsError('busy', `stopped by ${stoppedBy} as the mount became live`);
    }
    isLive = true;
    child.unref();
    return said.warnings;
  } catch (error) {
    fs.rmSync(logFile, { force: true });
    throw error;
  } finally {
    passphrases.wipe();
  }
}

function start(logFile: string): ChildProcess {
  const log = fs.openSync(logFile, 'wx', 0o600);
  const entry = fileURLToPath(new URL('./background-main.js', import.meta.url));
  try {
    return spawn(process.execPath, [entry], {
      detached: true,
      stdio: ['pipe', log, log, 'pipe', 'pipe'],
      // Node reads such certificates when it starts, which takes as long as all the rest: nothing here speaks TLS.
      env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined },
    });
  } finally {
    fs.closeSync(log);
  }
}

/** The report, which is the last line; undefined where there is none. Every line before it is a question. */
async function reported(stream: Readable, asked: (question: Question) => void): Promise<Report | undefined> {
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) {
    text += chunk;
    for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
      const said = JSON.parse(text.slice(0, end)) as Report | Question;
      text = text.slice(end + 1);
      if ('live' in said) return said;
      asked(said);
    }
  }
  return undefined;
}

function silentDeath(how: string, logFile: string): ImgfsError {
  const last = fs.readFileSync(logFile, 'utf8').trim().split('\n').at(-1) ?? '';
  return new ImgfsError('system', `the background process ended before the mount was live (${how})`, {
    ...(last === '' ? {} : { hint: last }),
  });
}
