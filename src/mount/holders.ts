/** Who keeps a mount busy. Everything is read from /proc and /sys; the mount itself is never touched. */
import fs from 'node:fs';
import { sep } from 'node:path';
import { mounts } from '../fuse/mountinfo.js';

/** A few words per holder: a loop device (and where it is mounted), a mount beneath, another process than this one. */
export function holdersOf(mountpoint: string): readonly string[] {
  const inside = (path: string): boolean => path === mountpoint || path.startsWith(mountpoint + sep);
  return [...loopDevices(inside), ...mountsBeneath(mountpoint), ...processes(inside)];
}

function loopDevices(inside: (path: string) => boolean): readonly string[] {
  const loops = list('/sys/block').filter((name) => /^loop[0-9]+$/.test(name));
  return loops.flatMap((name) => {
    const file = text(`/sys/block/${name}/loop/backing_file`);
    if (file === undefined || !inside(file.replace(/ \(deleted\)$/, ''))) return [];
    const mounted = mounts().filter((entry) => new RegExp(`^/dev/${name}(p[0-9]+)?$`).test(entry.source));
    const where = mounted.map((entry) => ` (mounted on ${entry.mountpoint})`).join('');
    return [`/dev/${name}${where}`];
  });
}

function mountsBeneath(mountpoint: string): readonly string[] {
  return mounts()
    .filter((entry) => entry.mountpoint.startsWith(mountpoint + sep))
    .map((entry) => `the mount on ${entry.mountpoint}`);
}

function processes(inside: (path: string) => boolean): readonly string[] {
  return list('/proc')
    .filter((name) => /^[0-9]+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => [...places(pid)].some(inside))
    .map((pid) => `${text(`/proc/${pid}/comm`) ?? 'a process'} (pid ${pid})`);
}

/** Every path a process holds: open files, working and root directory, program, mapped files. */
function* places(pid: string): Generator<string> {
  for (const name of ['cwd', 'root', 'exe']) yield link(`/proc/${pid}/${name}`);
  for (const fd of list(`/proc/${pid}/fd`)) yield link(`/proc/${pid}/fd/${fd}`);
  for (const line of (text(`/proc/${pid}/maps`) ?? '').split('\n')) {
    const at = line.indexOf('/');
    if (at >= 0) yield line.slice(at);
  }
}

function list(directory: string): readonly string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

function link(path: string): string {
  try {
    return fs.readlinkSync(path);
  } catch {
    return '';
  }
}

function text(path: string): string | undefined {
  try {
    return fs.readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}
