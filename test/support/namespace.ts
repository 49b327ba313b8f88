/**
 * Machines that are not this one: shell scripts in a private mount namespace, as root or as an ordinary user. The host
 * is never changed.
 */
import fs from 'node:fs';
import { type Place, place } from './place.js';
import { IMGFS, type Ran, run } from './program.js';

/** An ordinary user, with an account on these machines only: fusermount3 asks for one. */
export const USER = 64_321;

/** Makes every user able to open /dev/fuse, or nobody: distributions have it at 0666, some machines at 0600. */
export function fuseDevice(mode: '0666' | '0600'): string {
  return `mknod -m ${mode} "$HERE/fuse" c 10 229; mount --bind "$HERE/fuse" /dev/fuse`;
}

/**
 * What scripts can use: `imgfs` and `user COMMAND...` (run as USER), $HERE (a directory everybody may write to), $IMGFS.
 * A command that fails ends the script.
 */
const PRELUDE = `
imgfs() { "$NODE" "$IMGFS" "$@"; }
user() { setpriv --reuid=${USER} --regid=${USER} --clear-groups env -u XDG_RUNTIME_DIR XDG_RUNTIME_DIR="$HERE/run" "$@"; }
userfs() { user "$NODE" "$IMGFS" "$@"; }
{ cat /etc/passwd; echo "imgfs-test:x:${USER}:${USER}::/:/bin/sh"; } > "$HERE/passwd"
mount --bind "$HERE/passwd" /etc/passwd
mkdir -p "$HERE/mnt" "$HERE/run"; chown ${USER}:${USER} "$HERE/mnt" "$HERE/run"; chmod 700 "$HERE/run"
`;

/** A machine of this suite. Call inside `describe`; needs root and unshare. */
export class Machine {
  readonly here: Place = place();

  /** Runs a script in a namespace of its own, where $HERE is a device-friendly directory. */
  run(script: string): Ran {
    const home = this.here.path('machine');
    fs.mkdirSync(home, { recursive: true });
    const whole = `mount -t tmpfs -o mode=1777 imgfs-test "$HERE"\n${PRELUDE}\n${script}`;
    const env = { HERE: home, IMGFS, NODE: process.execPath };
    const ran = run('unshare', ['-m', '--propagation', 'private', 'bash', '-ec', whole], { env });
    this.endServers();
    return ran;
  }

  /** A script that failed half-way left its mount, and the mount its process, in a namespace nobody sees. */
  private endServers(): void {
    const pids = fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name));
    for (const pid of pids) {
      try {
        const environment = fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
        if (environment.includes(`HERE=${this.here.path('machine')}`)) process.kill(Number(pid), 'SIGKILL');
      } catch {
        // Gone meanwhile.
      }
    }
  }
}
