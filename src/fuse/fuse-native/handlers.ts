import type { Served } from '../adapter.js';
import { changeHandlers } from './changes.js';
import { Desk, Handles, type Report, resolvePath } from './desk.js';
import type { Operations } from './operations.js';
import { statOf, statVfsOf } from './stat.js';

/** The handlers that show `served`. Data goes by handle, everything else by path. */
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
    ...changeHandlers(served, desk, handles, report.readOnly),
  };
}
