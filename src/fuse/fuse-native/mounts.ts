import { readFileSync } from 'node:fs';

/** The device number (`major:minor`) of what is mounted on top at `mountpoint`, without touching it. */
export function deviceAt(mountpoint: string): string | undefined {
  let device: string | undefined;
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    // mount id, parent id, major:minor, root, mountpoint; later lines lie on top of earlier ones.
    const [, , numbers, , where] = line.split(' ');
    if (where !== undefined && unescaped(where) === mountpoint) device = numbers;
  }
  return device;
}

/** The kernel writes space, tab, line feed and backslash as three octal digits. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
