/** Who serves the raw view of an image. Each says how it is started; starting and stopping are the same for all. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { CACHES, type CacheMode } from '../src/mount/options.js';
import { afterwards, run } from './workplace.js';

/** The program, for node. */
export const IMGFS = fileURLToPath(new URL('../src/imgfs.cjs', import.meta.url));
const PATIENCE_MS = 5000;
const POLL_MS = 5;

/** An image, and how it is served. */
export interface Exhibit {
  readonly path: string;
  /** QEMU's name of it. */
  readonly format: string;
  /** A raw file: with the same bytes where they are read, of the same size where it is written. */
  readonly raw: string;
  readonly size: number;
  readonly access: 'read' | CacheMode;
  /** The file of the passphrase, where it is encrypted with LUKS. */
  readonly secret?: string;
}

export interface Server {
  readonly name: string;
  /** Whether it can serve an image so, or so that it makes a difference. By default it can. */
  readonly suits?: (exhibit: Exhibit) => boolean;
  /** The shell command that starts it and returns when it serves; undefined where there is nothing to start. */
  command(exhibit: Exhibit, mountpoint: string): string | undefined;
  /** The raw view. */
  view(exhibit: Exhibit, mountpoint: string): string;
  /** Makes the mountpoint. */
  prepare(mountpoint: string): void;
  /** The process that serves; undefined where there is none. */
  pid(mountpoint: string): number | undefined;
}

/** A server at work. */
export interface Serving {
  readonly server: Server;
  readonly exhibit: Exhibit;
  readonly view: string;
  readonly pid: number | undefined;
  /** Milliseconds from the command to the first byte. */
  readonly firstByteMs: number;
  stop(): Promise<void>;
}

function imgfsWith(name: string, options: string): Server {
  return {
    name,
    command: ({ path: image, format, access, secret }, at) => {
      const key = secret === undefined ? '' : ` --password-file ${secret}`;
      const how = `${access === 'read' ? '-r' : `--cache ${access}`}${key}`;
      return `${process.execPath} ${IMGFS} mount ${how} --format ${format} ${options} ${image} ${at}`;
    },
    view: (_exhibit, at) => path.join(at, 'disk.raw'),
    prepare: (at) => fs.mkdirSync(at),
    pid(at) {
      const listed = spawnSync(process.execPath, [IMGFS, 'list', '--json'], { encoding: 'utf8' }).stdout;
      const { mounts } = JSON.parse(listed) as { mounts: { mountpoint: string; pid: number }[] };
      return mounts.find((mount) => mount.mountpoint === at)?.pid;
    },
  };
}

/** QEMU's own way to the same end; its cache options are those its documentation gives for the mode. */
function qemu(name: string, direct: string, suits: Server['suits'] = () => true): Server {
  return {
    name,
    suits,
    command({ path: image, format, access, secret }, at) {
      const { direct: bypass, through, unsafe } = CACHES[access === 'read' ? 'writeback' : access];
      const readOnly = access === 'read' ? ',read-only=on' : '';
      const cache = `${bypass ? ',cache.direct=on' : ''}${unsafe ? ',cache.no-flush=on' : ''}${direct}`;
      const writing = access === 'read' ? 'writable=off' : `writable=on${through ? ',writethrough=on' : ''}`;
      return [
        'qemu-storage-daemon --daemonize',
        `--pidfile ${at}.pid`,
        `--blockdev driver=file,node-name=f,filename=${image}${readOnly}${cache}`,
        ...(secret === undefined ? [] : qemuSecret(secret)),
        `--blockdev driver=${format},node-name=q,file=f${readOnly}${secret === undefined ? '' : keyOf(format)}`,
        `--export type=fuse,id=e,node-name=q,mountpoint=${at},growable=off,${writing}`,
      ].join(' ');
    },
    view: (_exhibit, at) => at,
    prepare: (at) => fs.writeFileSync(at, ''),
    pid: (at) => Number(fs.readFileSync(`${at}.pid`, 'utf8')),
  };
}

/** QEMU's option for a passphrase in a file; its images name it by the id `s`. */
export function qemuSecret(file: string): readonly string[] {
  return ['--object', `secret,id=s,file=${file}`];
}

function keyOf(format: string): string {
  return format === 'luks' ? ',key-secret=s' : ',encrypt.format=luks,encrypt.key-secret=s';
}

export const imgfs = imgfsWith('imgfs', '');
export const fuseNative = imgfsWith('fuse-native', '--adapter fuse-native');
/** As it comes. */
export const qsd = qemu('qsd', '');
/**
 * With asynchronous I/O that bypasses the page cache, which is faster in places where the image lies in memory (from a
 * disk it would read the disk), and is its best where the cache is bypassed anyway. io_uring was slower than one of the
 * two throughout.
 */
export const qsdNative = qemu('qsd-native', ',cache.direct=on,aio=native', ({ access }) => {
  return access === 'read' || CACHES[access].direct;
});

/** The limit: no server at all. */
export const plainFile: Server = {
  name: 'raw file',
  command: () => undefined,
  view: ({ raw }) => raw,
  prepare() {},
  pid: () => undefined,
};

/** Whom imgfs is compared with: the better of these in each measure. */
export const RIVALS: readonly string[] = [qsd.name, qsdNative.name];

/** Starts a server, reads one byte through it and tells how long that took. */
export async function start(server: Server, exhibit: Exhibit, mountpoint: string): Promise<Serving> {
  const command = server.command(exhibit, mountpoint);
  const view = server.view(exhibit, mountpoint);
  server.prepare(mountpoint);
  let pid: number | undefined;
  const end = once(() => {
    spawnSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
    if (pid !== undefined && isAlive(pid)) process.kill(pid, 'SIGTERM');
    fs.rmSync(mountpoint, { recursive: true, force: true });
  });
  if (command !== undefined) afterwards(end);
  const begin = performance.now();
  await run('sh', ['-c', `${command ?? 'true'} && head -c1 ${view}`]);
  const firstByteMs = performance.now() - begin;
  pid = server.pid(mountpoint);
  const stop = async (): Promise<void> => {
    if (command !== undefined) end();
    const deadline = performance.now() + PATIENCE_MS;
    while (pid !== undefined && isAlive(pid) && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  };
  return { server, exhibit, view, pid, firstByteMs, stop };
}

/** Those of `servers` that can run here, found out with `exhibit`. Of the others the reason is printed. */
export async function usable(
  servers: readonly Server[],
  exhibit: Exhibit,
  mountpoint: (server: Server) => string,
): Promise<readonly Server[]> {
  const found: Server[] = [];
  for (const server of servers) {
    try {
      await (await start(server, exhibit, mountpoint(server))).stop();
      found.push(server);
    } catch (error) {
      console.log(`without ${server.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return found;
}

function once(step: () => void): () => void {
  let done = false;
  return () => {
    if (!done) step();
    done = true;
  };
}

function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
