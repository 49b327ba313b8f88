/** What is compared: each server shows one image as one raw file. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BenchImage } from './images.js';
import { afterwards, run } from './workplace.js';

const IMGFS = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
const PATIENCE_MS = 5000;
const POLL_MS = 5;

export interface Server {
  readonly name: string;
  /** The shell command that starts it and returns when it serves; undefined where there is nothing to start. */
  command(image: BenchImage, mountpoint: string): string | undefined;
  /** The raw view. */
  view(image: BenchImage, mountpoint: string): string;
  /** Makes the mountpoint. */
  prepare(mountpoint: string): void;
  /** The process that serves; undefined where there is none. */
  pid(mountpoint: string): number | undefined;
}

/** A server at work. */
export interface Serving {
  readonly server: Server;
  readonly image: BenchImage;
  readonly view: string;
  readonly pid: number | undefined;
  /** Milliseconds from the command to the first byte. */
  readonly firstByteMs: number;
  stop(): Promise<void>;
}

function imgfs(name: string, options: string): Server {
  return {
    name,
    command: (image, at) => `${process.execPath} ${IMGFS} mount -r ${options} ${image.path} ${at}`,
    view: (_image, at) => path.join(at, 'disk.raw'),
    prepare: (at) => fs.mkdirSync(at),
    pid(at) {
      const listed = spawnSync(process.execPath, [IMGFS, 'list', '--json'], { encoding: 'utf8' }).stdout;
      const { mounts } = JSON.parse(listed) as { mounts: { mountpoint: string; pid: number }[] };
      return mounts.find((mount) => mount.mountpoint === at)?.pid;
    },
  };
}

/** QEMU's own way to the same end. */
function qemu(name: string, settings: string): Server {
  return {
    name,
    command: (image, at) =>
      [
        'qemu-storage-daemon --daemonize',
        `--pidfile ${at}.pid`,
        `--blockdev driver=file,node-name=f,filename=${image.path},read-only=on,${settings}`,
        '--blockdev driver=qcow2,node-name=q,file=f,read-only=on',
        `--export type=fuse,id=e,node-name=q,mountpoint=${at},writable=off,growable=off`,
      ].join(' '),
    view: (_image, at) => at,
    prepare: (at) => fs.writeFileSync(at, ''),
    pid: (at) => Number(fs.readFileSync(`${at}.pid`, 'utf8')),
  };
}

/** The limit: no server at all. */
const raw: Server = {
  name: 'raw file',
  command: () => undefined,
  view: (image) => image.raw,
  prepare() {},
  pid: () => undefined,
};

/**
 * qemu-storage-daemon twice: as it comes, and with asynchronous reads that bypass the page cache, which is faster in
 * places where the image lies in memory (from a disk it would read the disk). io_uring was slower than one of them
 * throughout.
 */
const QEMU = [qemu('qsd', 'aio=threads'), qemu('qsd-native', 'aio=native,cache.direct=on')] as const;

export const SERVERS: readonly Server[] = [
  imgfs('imgfs', ''),
  imgfs('fuse-native', '--adapter fuse-native'),
  ...QEMU,
  raw,
];

/** Whom imgfs is compared with: the better of these in each measure. */
export const RIVALS: readonly string[] = QEMU.map(({ name }) => name);

/** Starts a server, reads one byte through it and tells how long that took. */
export async function start(server: Server, image: BenchImage, mountpoint: string): Promise<Serving> {
  const command = server.command(image, mountpoint);
  const view = server.view(image, mountpoint);
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
  return { server, image, view, pid, firstByteMs, stop };
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
