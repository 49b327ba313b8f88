/**
 * What a mounted process does to one file on the host, in order, and a way to have that go wrong: by a hook in the
 * process and in each of its threads.
 */
import fs from 'node:fs';
import type { Place } from './place.js';

/**
 * A flush takes a while before it is done and noted, so that an answer that did not wait for it comes too early.
 * `.fail`: it fails. `.die`: the thread that writes the file ends there and then.
 */
const HOOK = `
  import fs from 'node:fs';
  import { isMainThread } from 'node:worker_threads';
  const { IMGFS_TEST_FILE: file = '', IMGFS_TEST_CALLS: calls = '' } = process.env;
  const { writeSync, fdatasyncSync, fsyncSync } = fs;
  const log = fs.openSync(calls, 'a');
  const known = new Map();
  const isFile = (fd) => {
    if (!known.has(fd)) known.set(fd, fs.readlinkSync('/proc/self/fd/' + fd) === file);
    return known.get(fd);
  };
  fs.writeSync = (fd, ...rest) => {
    const ours = isFile(fd);
    if (ours && !isMainThread && fs.existsSync(calls + '.die')) process.exit(7);
    const done = writeSync(fd, ...rest);
    if (ours) writeSync(log, 'write\\n');
    return done;
  };
  const flush = (how) => (fd) => {
    const ours = isFile(fd);
    if (ours) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30);
    if (ours && fs.existsSync(calls + '.fail')) {
      throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO', errno: -5, syscall: 'fdatasync' });
    }
    how(fd);
    if (ours) writeSync(log, 'flush\\n');
  };
  fs.fdatasyncSync = flush(fdatasyncSync);
  fs.fsyncSync = flush(fsyncSync);`;

/** The calls on one file, by processes that are started with `env`. */
export class HostCalls {
  readonly env: Readonly<Record<string, string>>;
  private readonly calls: string;

  constructor(here: Place, file: string) {
    this.calls = here.file('calls', '');
    for (const what of ['fail', 'die']) fs.rmSync(`${this.calls}.${what}`, { force: true });
    this.env = {
      NODE_OPTIONS: `--import=${here.file('host-calls.mjs', HOOK)}`,
      IMGFS_TEST_FILE: file,
      IMGFS_TEST_CALLS: this.calls,
    };
  }

  /** What was done since the last time this was asked: `write`, `flush`. */
  take(): readonly string[] {
    const lines = fs.readFileSync(this.calls, 'utf8').split('\n').slice(0, -1);
    fs.truncateSync(this.calls, 0);
    return lines;
  }

  /** From now on flushes fail, or a thread that writes dies. */
  let(what: 'fail' | 'die'): void {
    fs.writeFileSync(`${this.calls}.${what}`, '');
  }

  /** Flushes succeed again. */
  mend(): void {
    fs.rmSync(`${this.calls}.fail`);
  }
}
