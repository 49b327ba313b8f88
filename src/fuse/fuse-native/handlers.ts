import { constants } from 'node:os';
import { errorLine, ImgfsError } from '../../lib/errors.js';
import { type Ino, type MountRequest, type NameServer, ROOT, type Served } from '../adapter.js';
import { errnoOf } from '../errno.js';
import type { Operations } from './operations.js';
import { statOf, statVfsOf } from './stat.js';

const { EIO } = constants.errno;
const HANDLE_LIMIT = 2 ** 31;

type Report = Pick<MountRequest, 'trace' | 'log'>;

/** Follows a path of the mount (`/` or `/a/b`) from the top. Throws `missing`. */
export function resolvePath(names: NameServer, path: string): Ino {
  let ino: Ino = ROOT;
  for (const name of path.split('/')) {
    if (name !== '') ino = names.lookup(ino, name);
  }
  return ino;
}

/**
 * Runs requests so that nothing is ever thrown into the native callback, where it would end the process or leave the
 * reader waiting. What is the image's or our fault goes to the log, once for as long as it stays the same.
 */
class Desk {
  #lastTrouble = '';

  constructor(readonly report: Report) {}

  /** What `serve` returned, or the negated errno of what it threw. */
  run<T>(request: readonly (string | number)[], serve: () => T): T | number {
    try {
      const result = serve();
      this.#trace(request, typeof result === 'number' ? String(result) : 'ok');
      return result;
    } catch (error) {
      const errno = errnoOf(error);
      this.#trace(request, error instanceof ImgfsError ? error.reason : 'internal error');
      if (errno === EIO) this.#complain(`${request.join(' ')}: ${errorLine(error)}`, errorLine(error));
      return -errno;
    }
  }

  #trace(request: readonly (string | number)[], outcome: string): void {
    if (this.report.trace) this.report.log(`${request.join(' ')} -> ${outcome}`);
  }

  #complain(message: string, trouble: string): void {
    if (trouble === this.#lastTrouble) return;
    this.#lastTrouble = trouble;
    this.report.log(message);
  }
}

/** Handle numbers and the files they stand for: 1 to 2^31 - 1, for the package takes 0 as no handle at all. */
class Handles {
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

/** The handlers that show `served`. Reads go by handle, everything else by path; changes are refused (EROFS). */
export function handlers(served: Served, report: Report): Operations {
  const { names, data } = served;
  const desk = new Desk(report);
  const handles = new Handles();
  return {
    getattr(path, done) {
      const found = desk.run(['getattr', path], () => statOf(names.attributes(resolvePath(names, path))));
      typeof found === 'number' ? done(found) : done(0, found);
    },
    readdir(path, done) {
      const found = desk.run(['readdir', path], () => names.entries(resolvePath(names, path)));
      if (typeof found === 'number') return done(found);
      // Stats carry the inode numbers and types; an entry that has just gone has none, and then none are sent.
      const stats = desk.run(['entries', path], () => found.map((entry) => statOf(names.attributes(entry.ino))));
      const listed = found.map((entry) => entry.name);
      typeof stats === 'number' ? done(0, listed) : done(0, listed, stats);
    },
    open(path, flags, done) {
      // The two lowest bits are the access mode: 0 is O_RDONLY, all else writes.
      const result = desk.run(['open', path, flags], () => {
        const ino = resolvePath(names, path);
        names.open(ino, flags % 4 !== 0);
        return handles.add(ino);
      });
      result < 0 ? done(result) : done(0, result);
    },
    read(path, handle, into, length, at, done) {
      done(desk.run(['read', path, at, length], () => data.read(handles.get(handle), into, at)));
    },
    release(path, handle, done) {
      done(
        desk.run(['release', path], () => {
          names.release(handles.remove(handle));
          return 0;
        }),
      );
    },
    statfs(path, done) {
      const found = desk.run(['statfs', path], () => statVfsOf(names.space()));
      typeof found === 'number' ? done(found) : done(0, found);
    },
    // Nothing is ever dirty: there are no writes yet.
    flush: (path, _handle, done) => done(desk.run(['flush', path], () => 0)),
    fsync: (path, _dataOnly, _handle, done) => done(desk.run(['fsync', path], () => 0)),
    ...refusals(desk),
  };
}

type Changes =
  | 'write'
  | 'create'
  | 'truncate'
  | 'ftruncate'
  | 'chmod'
  | 'chown'
  | 'utimens'
  | 'mknod'
  | 'mkdir'
  | 'rmdir'
  | 'unlink'
  | 'rename'
  | 'link'
  | 'symlink';

/** Without a handler libfuse would say "function not implemented"; the truth is that the file system is read-only. */
function refusals(desk: Desk): Pick<Operations, Changes> {
  const refuse = (name: string, path: string): number =>
    desk.run([name, path], () => {
      throw new ImgfsError('read-only', `${path} cannot be changed`);
    });
  return {
    write: (path, _handle, _from, _length, _at, done) => done(refuse('write', path)),
    create: (path, _mode, done) => done(refuse('create', path)),
    truncate: (path, _size, done) => done(refuse('truncate', path)),
    ftruncate: (path, _handle, _size, done) => done(refuse('ftruncate', path)),
    chmod: (path, _mode, done) => done(refuse('chmod', path)),
    chown: (path, _uid, _gid, done) => done(refuse('chown', path)),
    utimens: (path, _atime, _mtime, done) => done(refuse('utimens', path)),
    mknod: (path, _mode, _device, done) => done(refuse('mknod', path)),
    mkdir: (path, _mode, done) => done(refuse('mkdir', path)),
    rmdir: (path, done) => done(refuse('rmdir', path)),
    unlink: (path, done) => done(refuse('unlink', path)),
    rename: (from, _to, done) => done(refuse('rename', from)),
    link: (from, _to, done) => done(refuse('link', from)),
    symlink: (_target, path, done) => done(refuse('symlink', path)),
  };
}
