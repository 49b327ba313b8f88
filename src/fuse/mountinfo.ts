/** The kernel's table of mounts. Reading it asks nothing of the file systems in it: safe for a server on its own. */
import { readFileSync } from 'node:fs';

export interface Mount {
  /** `major:minor`, as under /sys/class/bdi. */
  readonly device: string;
  readonly mountpoint: string;
  readonly type: string;
  readonly source: string;
}

/** All mounts of this process's namespace, oldest first: of two on one mountpoint the later covers the earlier. */
export function mounts(): readonly Mount[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** The device number of what is mounted on top at `mountpoint`. */
export function deviceAt(mountpoint: string): string | undefined {
  return mounts().findLast((mount) => mount.mountpoint === mountpoint)?.device;
}

/** proc(5): id, parent, major:minor, root, mountpoint, options, any number of tags, `-`, type, source, options. */
export function parseMountinfo(text: string): readonly Mount[] {
  const found: Mount[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    const [device, mountpoint, type, source] = [fields[2], fields[4], fields[dash + 1], fields[dash + 2]];
    if (dash < 0 || device === undefined || mountpoint === undefined) continue;
    if (type === undefined || source === undefined) continue;
    found.push({ device, mountpoint: plain(mountpoint), type: plain(type), source: plain(source) });
  }
  return found;
}

/** Blanks, line ends and the backslash itself are written as octal. */
function plain(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
