/**
 * fusermount3, the set-uid helper that mounts and unmounts for users: the one file that starts it. It gets an
 * absolute path, an environment of nothing but the socket's number, and a fixed list of options.
 */
import { spawn } from 'node:child_process';
import { accessSync, closeSync, constants } from 'node:fs';
import { ImgfsError } from '../lib/errors.js';
import type { Libc } from '../lib/libc.js';

/** Where distributions put it; never looked for on PATH, which belongs to whoever started us. */
const PLACES = ['/usr/bin/fusermount3', '/bin/fusermount3', '/usr/bin/fusermount', '/bin/fusermount'];
const SOCKET_IN_CHILD = 3;
const TEXT_LIMIT = 4096;

interface Outcome {
  readonly ok: boolean;
  /** What it said on stderr, without its own name. */
  readonly text: string;
}

export interface UserMount {
  readonly mountpoint: string;
  readonly source: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  /** Largest read request in bytes. */
  readonly maxRead: number;
}

/**
 * Mounts and returns the descriptor of the connection, which the caller owns. Throws ImgfsError with what fusermount3
 * said.
 */
export async function mountAsUser(libc: Libc, mount: UserMount): Promise<number> {
  const [ours, theirs] = libc.socketPair();
  try {
    const outcome = await run(['-o', mountOptions(mount), '--', mount.mountpoint], theirs);
    // It has ended, and nobody else holds its end of the socket: this cannot block.
    const fd = libc.receiveDescriptor(ours);
    if (outcome.ok && fd !== undefined) return fd;
    if (fd !== undefined) closeSync(fd);
    throw mountError(mount.mountpoint, outcome.text);
  } finally {
    closeSync(ours);
  }
}

/** Unmounts what this user has mounted. The outcome is for the caller to explain. */
export async function unmountAsUser(mountpoint: string, options: { readonly lazy: boolean }): Promise<Outcome> {
  return await run(['-u', ...(options.lazy ? ['-z'] : []), '--', mountpoint]);
}

/** fusermount3 takes a comma or backslash of the source literally only behind a backslash. */
function mountOptions(mount: UserMount): string {
  const options = [
    mount.readOnly ? 'ro' : 'rw',
    'nosuid',
    'nodev',
    `fsname=${mount.source.replace(/[\\,]/g, '\\$&')}`,
    'subtype=imgfs',
    'default_permissions',
    `max_read=${mount.maxRead}`,
  ];
  if (mount.allowOther) options.push('allow_other');
  return options.join(',');
}

function mountError(mountpoint: string, text: string): ImgfsError {
  if (text.includes('user_allow_other')) {
    return new ImgfsError('permission', 'cannot mount: users may not use allow_other here', {
      hint: 'as root add the line user_allow_other to /etc/fuse.conf, or mount without it',
    });
  }
  return new ImgfsError('system', `cannot mount on ${mountpoint}: ${text === '' ? 'fusermount3 failed' : text}`);
}

function executable(): string {
  const found = PLACES.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (found !== undefined) return found;
  throw new ImgfsError('system', 'fusermount3 is missing', { hint: 'apt install fuse3' });
}

/** Runs it to its end. `socket` becomes its descriptor 3 and is closed here whatever happens. */
async function run(args: readonly string[], socket?: number): Promise<Outcome> {
  try {
    const child = spawn(executable(), args, {
      cwd: '/',
      env: socket === undefined ? {} : { _FUSE_COMMFD: String(SOCKET_IN_CHILD) },
      stdio: ['ignore', 'ignore', 'pipe', ...(socket === undefined ? [] : [socket])],
    });
    let text = '';
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      if (text.length < TEXT_LIMIT) text += chunk;
    });
    const ended = new Promise<boolean>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve(code === 0));
    });
    return { ok: await ended, text: firstLine(text) };
  } finally {
    if (socket !== undefined) closeSync(socket);
  }
}

function firstLine(text: string): string {
  const line = text.split('\n').find((part) => part.trim() !== '') ?? '';
  return line.replace(/^\S*fusermount3?: /, '').trim();
}
