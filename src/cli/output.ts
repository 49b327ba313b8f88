/**
 * The only way to standard output and standard error. Synchronous, so that a verb which streams millions of lines
 * holds none of them, and learns at once that nobody reads any more.
 */
import fs from 'node:fs';
import { errorLine, hostError, printable, systemCode } from '../lib/errors.js';

/** Thrown when the reader of standard output has gone: the program ends, quietly and in good health. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
}

const STDOUT = 1;
const STDERR = 2;
const BUFFERED = 64 * 1024;

/** Writes data to standard output. Throws OutputClosed, or ImgfsError where it cannot be written. */
export function print(text: string): void {
  try {
    writeAll(STDOUT, Buffer.from(text));
  } catch (error) {
    if (systemCode(error) === 'EPIPE') throw new OutputClosed();
    throw hostError('cannot write the output', error);
  }
}

/** Gathers many small pieces into few writes. `end` must be called. */
export class Printer {
  private pieces = '';

  add(text: string): void {
    this.pieces += text;
    if (this.pieces.length >= BUFFERED) this.end();
  }

  end(): void {
    const text = this.pieces;
    this.pieces = '';
    if (text !== '') print(text);
  }
}

/** One line about something that went well enough to go on. */
export function warn(message: string): void {
  tell(printable(`imgfs: warning: ${message}`));
}

/** One line that is not data: what was done, or what the user may want to do next. */
export function note(message: string): void {
  tell(printable(message));
}

/** The one line of a failure; with IMGFS_DEBUG=1 also where it came from. */
export function reportError(error: unknown): void {
  tell(errorLine(error));
  if (process.env.IMGFS_DEBUG === '1' && error instanceof Error && error.stack !== undefined) tell(error.stack);
}

/** A line about how far something is, for whoever asked. */
export function statusLine(text: string): void {
  tell(text);
}

export function standardOutputIsTerminal(): boolean {
  return isTerminal(STDOUT);
}

/**
 * How to write over the last line of the terminal that standard error is, without ending it; '' leaves it empty.
 * Undefined where standard error is no terminal.
 */
export function overwriteStatus(): ((text: string) => void) | undefined {
  if (!isTerminal(STDERR)) return undefined;
  return (text) => toStderr(`\r${printable(text)}\u001b[K`);
}

/** node:tty brings sockets and streams with it, a tenth of a start: it is asked only about what may be a terminal. */
function isTerminal(fd: number): boolean {
  return fs.fstatSync(fd).isCharacterDevice() && process.getBuiltinModule('node:tty').isatty(fd);
}

function tell(line: string): void {
  toStderr(`${line}\n`);
}

function toStderr(text: string): void {
  try {
    writeAll(STDERR, Buffer.from(text));
  } catch {
    // Nobody to tell.
  }
}

/** Whoever shares our terminal or pipe may have made it non-blocking: then a full one is waited for here. */
function writeAll(fd: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(fd, bytes, done);
    } catch (error) {
      if (systemCode(error) !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
