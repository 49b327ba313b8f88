/** The kernel's table of mounts, read from /proc: asking it never touches a mounted file system. */
import fs from 'node:fs';

/** The type every mount of ours has in the table. */
export const MOUNT_TYPE = 'fuse.imgfs';

export interface MountEntry {
  readonly mountpoint: string;
  readonly type: string;
  readonly source: string;
  /** `major:minor` of the mounted file system. */
  readonly device: string;
}

/** All mounts this process can see, in the order they were made: of several on one place the last is on top. */
export function allMounts(): readonly MountEntry[] {
  const lines = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.filter((line) => line !== '').map(parseLine);
}

/** Our mounts among them. */
export function ourMounts(): readonly MountEntry[] {
  return allMounts().filter((entry) => entry.type === MOUNT_TYPE);
}

/** The mount on top of exactly that path, if there is one. */
export function mountAt(path: string): MountEntry | undefined {
  return allMounts().findLast((entry) => entry.mountpoint === path);
}

/** proc(5): ID parent major:minor root mountpoint options tags... - type source super-options. */
function parseLine(line: string): MountEntry {
  const fields = line.split(' ');
  const dash = fields.indexOf('-', 6);
  return {
    device: fields[2] ?? '',
    mountpoint: unescapeField(fields[4] ?? ''),
    type: fields[dash + 1] ?? '',
    source: unescapeField(fields[dash + 2] ?? ''),
  };
}

/** Space, tab, newline and backslash are written as three octal digits. */
function unescapeField(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
