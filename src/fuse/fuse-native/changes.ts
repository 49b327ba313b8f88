/** The handlers that change something. */
import { constants } from 'node:os';
import type { Ino, Served } from '../adapter.js';
import { type Desk, type Handles, type Request, resolvePath } from './desk.js';
import type { Operations } from './operations.js';

const { EPERM, EROFS, ENOSPC } = constants.errno;

type Changes =
  | 'write'
  | 'flush'
  | 'fsync'
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
  | 'symlink'
  | 'setxattr';

/** Data goes by handle, names by path. What no tree of ours can do is EPERM, or EROFS where nothing can be done. */
export function changeHandlers(
  { names, data }: Served,
  desk: Desk,
  handles: Handles,
  readOnly: boolean,
): Pick<Operations, Changes> {
  const fixed = readOnly ? -EROFS : -EPERM;
  const never = (name: string, path: string): number => desk.run([name, path], () => fixed);
  const change = (request: Request, serve: () => void): number =>
    desk.run(request, () => {
      if (readOnly) return -EROFS;
      serve();
      return 0;
    });
  const inDirectory = (path: string): readonly [Ino, string] => {
    const slash = path.lastIndexOf('/');
    return [resolvePath(names, path.slice(0, slash)), path.slice(slash + 1)];
  };
  return {
    write(path, handle, from, length, at, done) {
      done(
        desk.run(['write', path, at, length], () => {
          const taken = data.write(handles.get(handle), from.subarray(0, length), at);
          return taken === 0 && length > 0 ? -ENOSPC : taken;
        }),
      );
    },
    flush: (path, handle, done) =>
      done(desk.run(['flush', path], () => settled(() => data.verify(handles.get(handle))))),
    fsync: (path, _dataOnly, handle, done) =>
      done(desk.run(['fsync', path], () => settled(() => data.flush(handles.get(handle))))),
    create(path, _mode, done) {
      const result = desk.run(['create', path], () =>
        readOnly ? -EROFS : handles.add(names.create(...inDirectory(path))),
      );
      result < 0 ? done(result) : done(0, result);
    },
    truncate: (path, size, done) =>
      done(change(['truncate', path, size], () => names.resize(resolvePath(names, path), size))),
    ftruncate: (path, handle, size, done) =>
      done(change(['truncate', path, size], () => names.resize(handles.get(handle), size))),
    // Times may be set and are forgotten, so that `touch` works.
    utimens: (path, _atime, _mtime, done) => done(change(['utimens', path], () => void resolvePath(names, path))),
    unlink: (path, done) => done(change(['unlink', path], () => names.remove(...inDirectory(path)))),
    rename: (from, to, done) =>
      done(change(['rename', from, to], () => names.rename(...inDirectory(from), ...inDirectory(to)))),
    // The kernel keeps no attributes here, and drops a file's pages at every open: see options.ts.
    setxattr: (path, name, value, _position, _flags, done) =>
      done(
        change(['setxattr', path, name], () => {
          names.setExtended(resolvePath(names, path), name, Buffer.from(value));
        }),
      ),
    chmod: (path, _mode, done) => done(never('chmod', path)),
    chown: (path, _uid, _gid, done) => done(never('chown', path)),
    mknod: (path, _mode, _device, done) => done(never('mknod', path)),
    mkdir: (path, _mode, done) => done(never('mkdir', path)),
    rmdir: (path, done) => done(never('rmdir', path)),
    link: (from, _to, done) => done(never('link', from)),
    symlink: (_target, path, done) => done(never('symlink', path)),
  };
}

function settled(action: () => void): number {
  action();
  return 0;
}
