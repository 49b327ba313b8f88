/** Asking for a passphrase on the terminal, without echo. */
import fs from 'node:fs';
import tty from 'node:tty';
import { ImgfsError, printable, systemCode } from '../lib/errors.js';

const TERMINAL = '/dev/tty';
const STDIN = 0;
const MAX_BYTES = 4096;
const KEY = { end: 4, back: 8, newline: 10, return: 13, interrupt: 3, clear: 21, delete: 127 } as const;
const CONTINUATION = 0x80;
const LEADING = 0xc0;

/** The bytes typed, which the caller wipes; undefined where there is no terminal, or
 * standard input is none: nobody sits there. Throws `busy` where the user ends it. */
export function promptPassphrase(question: string): Buffer | undefined {
  if (!tty.isatty(STDIN)) return undefined;
  let fd: number;
  try {
    fd = fs.openSync(TERMINAL, 'r+');
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  }
  const terminal = new tty.ReadStream(fd);
  try {
    // Raw: the terminal neither echoes nor keeps the line, and a signal cannot leave it without echo.
    terminal.setRawMode(true);
    fs.writeSync(fd, printable(question));
    return line(fd);
  } finally {
    terminal.setRawMode(false);
    fs.writeSync(fd, '\n');
    terminal.destroy();
  }
}

function line(fd: number): Buffer {
  const bytes = Buffer.alloc(MAX_BYTES);
  const key = Buffer.alloc(1);
  let length = 0;
  for (;;) {
    const code = readKey(fd, key);
    if (code === KEY.interrupt || (code === KEY.end && length === 0)) {
      bytes.fill(0);
      throw new ImgfsError('passphrase', 'no passphrase was typed');
    }
    if (code === KEY.newline || code === KEY.return || code === KEY.end) return bytes.subarray(0, length);
    if (code === KEY.clear) length = 0;
    else if (code === KEY.back || code === KEY.delete) length = withoutLast(bytes, length);
    else if (length < MAX_BYTES) bytes[length++] = code;
    key.fill(0);
  }
}

function readKey(fd: number, key: Buffer): number {
  for (;;) {
    try {
      return fs.readSync(fd, key, 0, 1, null) === 0 ? KEY.end : key.readUInt8(0);
    } catch (error) {
      // The terminal was made non-blocking by somebody: wait a moment instead of spinning.
      if (systemCode(error) !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
    }
  }
}

/** A whole character of UTF-8. */
function withoutLast(bytes: Buffer, length: number): number {
  let end = Math.max(0, length - 1);
  while (end > 0 && bytes[end]! >= CONTINUATION && bytes[end]! < LEADING) end--;
  return end;
}
