import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { hostError, ImgfsError } from '../lib/errors.js';
import { libc, UMOUNT } from '../lib/libc.js';

/** Where distributions put the setuid helper; never looked for on PATH, which belongs to whoever started us. */
const HELPERS = ['/usr/bin/fusermount3', '/bin/fusermount3', '/usr/bin/fusermount', '/bin/fusermount'];

/**
 * Unmounts what is on top of `mountpoint`: root by umount2(2), a user through the setuid fusermount3. Resolves when the
 * kernel has taken it out of the tree; the server may still be at work for a moment, with `lazy` for as long as files
 * are open. Throws `busy` while it is in use (not when lazy), `missing` where nothing is mounted.
 */
export async function unmount(mountpoint: string, options: { readonly lazy: boolean }): Promise<void> {
  const calls = process.geteuid?.() === 0 ? libc() : undefined;
  if (calls === undefined) return await helper(mountpoint, options.lazy);
  try {
    calls.umount(mountpoint, UMOUNT.NOFOLLOW + (options.lazy ? UMOUNT.DETACH : 0));
  } catch (error) {
    throw inUse(error) ? busy(mountpoint) : hostError(`cannot unmount ${mountpoint}`, notMounted(error, mountpoint));
  }
}

function inUse(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EBUSY';
}

/** umount2(2) says EINVAL where nothing is mounted. */
function notMounted(error: unknown, mountpoint: string): unknown {
  if (!(error instanceof Error && 'code' in error && error.code === 'EINVAL')) return error;
  return new ImgfsError('missing', `cannot unmount ${mountpoint}: nothing is mounted there`, { cause: error });
}

function busy(mountpoint: string): ImgfsError {
  return new ImgfsError('busy', `cannot unmount ${mountpoint}: it is in use`, {
    hint: `see who uses it with "fuser -vm ${mountpoint}", or unmount lazily`,
  });
}

async function helper(mountpoint: string, lazy: boolean): Promise<void> {
  const program = HELPERS.find((path) => existsSync(path));
  if (program === undefined) {
    throw new ImgfsError('system', `cannot unmount ${mountpoint}: fusermount3 is missing`, { hint: 'install fuse3' });
  }
  const { code, said } = await run(program, ['-u', ...(lazy ? ['-z'] : []), '--', mountpoint]);
  if (code === 0) return;
  if (said.includes('busy')) throw busy(mountpoint);
  const [why] = said.replace(/^fusermount3?: /, '').split('\n');
  throw new ImgfsError(
    said.includes('not found in') ? 'missing' : 'permission',
    `cannot unmount ${mountpoint}: ${why}`,
  );
}

/** An empty environment: the helper is setuid, and its messages must be the ones looked for above. */
function run(
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number | null; readonly said: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'], env: {}, cwd: '/' });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.on('error', (error) => reject(hostError(`cannot run ${program}`, error)));
    child.on('close', (code) => resolve({ code, said }));
  });
}
