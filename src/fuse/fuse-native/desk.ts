/** What the handlers share: running requests safely, open files by number, and names by path. */
import { constants } from 'node:os';
import { ImgfsError } from '../../lib/errors.js';
import { type Ino, type MountRequest, type NameServer, ROOT } from '../adapter.js';
import { Complaints } from '../complaints.js';
import { errnoOf } from '../errno.js';

const { EIO } = constants.errno;
const HANDLE_LIMIT = 2 ** 31;

export type Report = Pick<MountRequest, 'trace' | 'log' | 'readOnly'>;

/** Follows a path of the mount (`/` or `/a/b`) from the top. Throws `missing`. */
export function resolvePath(names: NameServer, path: string): Ino {
  let ino: Ino = ROOT;
  for (const name of path.split('/')) {
    if (name !== '') ino = names.lookup(ino, name);
  }
  return ino;
}

/** What was asked: the operation, the path, and numbers. Joined only where somebody reads it. */
export type Request = readonly (string | number)[];

/**
 * Runs requests so that nothing is ever thrown into the native callback, where it would end the process or leave the
 * reader waiting. What is the image's fault or ours goes to the log.
 */
export class Desk {
  readonly #complaints: Complaints;

  constructor(private readonly report: Report) {
    this.#complaints = new Complaints(report.log);
  }

  /** What `serve` returned, or the negated errno of what it threw. */
  run<T>(request: Request, serve: () => T): T | number {
    try {
      const result = serve();
      if (this.report.trace) this.#trace(request, typeof result === 'number' ? String(result) : 'ok');
      return result;
    } catch (error) {
      const errno = errnoOf(error);
      if (this.report.trace) this.#trace(request, error instanceof ImgfsError ? error.reason : 'internal error');
      if (errno === EIO) this.#complaints.tell(request.join(' '), error);
      return -errno;
    }
  }

  #trace(request: Request, outcome: string): void {
    this.report.log(`${request.join(' ')} -> ${outcome}`);
  }
}

/** Handle numbers and the files they stand for: 1 to 2^31 - 1, for the package takes 0 as no handle at all. */
export class Handles {
  readonly #files = new Map<number, Ino>();
  #next = 1;

  add(ino: Ino): number {
    while (this.#files.has(this.#next)) this.#step();
    const handle = this.#next;
    this.#files.set(handle, ino);
    this.#step();
    return handle;
  }

  get(handle: number): Ino {
    const ino = this.#files.get(handle);
    if (ino === undefined) throw new ImgfsError('io', `no open file has the handle ${handle}`);
    return ino;
  }

  remove(handle: number): Ino {
    const ino = this.get(handle);
    this.#files.delete(handle);
    return ino;
  }

  #step(): void {
    this.#next = this.#next + 1 < HANDLE_LIMIT ? this.#next + 1 : 1;
  }
}
