/**
 * Passphrases of a mount that is served by a process of its own: it asks on the pipe of its reports, and the command,
 * which has the files and the terminal, answers on another. Bytes that go nowhere else, and are wiped on both sides.
 */
import fs from 'node:fs';
import type { Writable } from 'node:stream';
import type { Passphrases } from '../image/keys.js';
import { ImgfsError } from '../lib/errors.js';
import { REPORT } from './background.js';

/** The descriptor on which the background process is answered. */
export const ANSWERS = 4;

const LENGTH_BYTES = 4;
/** No answer is longer: a length that is comes from nobody we know. */
const MAX_BYTES = 1024 * 1024;

/** What the background process asks, a line of JSON among its reports. */
export interface Question {
  readonly ask: string;
}

/** Passphrases that are no longer needed once everything is open. */
export interface LentPassphrases extends Passphrases {
  wipe(): void;
}

/** In the background process. */
export class AskedPassphrases implements LentPassphrases {
  private readonly known: Buffer[] = [];

  of(path: string): Uint8Array {
    fs.writeSync(REPORT, `${JSON.stringify({ ask: path } satisfies Question)}\n`);
    const length = received(LENGTH_BYTES).readUInt32BE();
    // The command knows why, and says so itself.
    if (length === 0 || length > MAX_BYTES) throw new ImgfsError('passphrase', `${path}: no passphrase`);
    const bytes = received(length);
    this.known.push(bytes);
    return bytes;
  }

  wipe(): void {
    for (const bytes of this.known) bytes.fill(0);
    this.known.length = 0;
  }
}

function received(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const got = fs.readSync(ANSWERS, bytes, done, length - done, null);
    if (got === 0) throw new ImgfsError('passphrase', 'the command ended before it gave a passphrase');
    done += got;
  }
  return bytes;
}

/** In the command: gives the passphrase, or says that there is none and returns why. */
export function answer(question: Question, passphrases: Passphrases, to: Writable): unknown {
  const length = Buffer.alloc(LENGTH_BYTES);
  try {
    const bytes = passphrases.of(question.ask);
    length.writeUInt32BE(bytes.length);
    to.write(length);
    to.write(bytes);
    return undefined;
  } catch (error) {
    to.write(length);
    return error;
  }
}
