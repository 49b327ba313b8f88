/** The servers a benchmark compares: each shows one qcow2 image as one raw file. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const IMGFS = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));

/** A server that is up. */
export interface Serving {
  /** The raw file to read. */
  readonly file: string;
  /** The process that serves; undefined for the plain file. */
  readonly pid?: number;
  /** Ends it and waits until it is gone. */
  stop(): Promise<void>;
}

export interface Server {
  readonly name: string;
  /** `home` is an empty directory of its own, `raw` the same disk as a plain file. */
  start(image: string, home: string, raw: string): Promise<Serving>;
}

function imgfs(...args: readonly string[]): void {
  execFileSync(process.execPath, [IMGFS, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
}

function imgfsServer(name: string, ...options: readonly string[]): Server {
  return {
    name,
    async start(image, home) {
      const mountpoint = path.join(home, 'mnt');
      fs.mkdirSync(mountpoint, { recursive: true });
      imgfs('mount', '-r', ...options, image, mountpoint);
      return {
        file: path.join(mountpoint, 'disk.raw'),
        pid: pidOf(mountpoint),
        stop: async () => imgfs('umount', mountpoint),
      };
    },
  };
}

function pidOf(mountpoint: string): number {
  const text = execFileSync(process.execPath, [IMGFS, 'list', '--json'], { encoding: 'utf8' });
  const { mounts } = JSON.parse(text) as { mounts: readonly { mountpoint: string; pid: number }[] };
  const found = mounts.find((mount) => mount.mountpoint === fs.realpathSync(mountpoint));
  if (found === undefined) throw new Error(`${mountpoint} is not in the list`);
  return found.pid;
}

/** qemu-storage-daemon with its FUSE export, read-only as ours. */
const storageDaemon: Server = {
  name: 'qemu-storage-daemon',
  async start(image, home) {
    const file = path.join(home, 'export');
    fs.mkdirSync(home, { recursive: true });
    fs.writeFileSync(file, '');
    const daemon = spawn(
      'qemu-storage-daemon',
      [
        '--blockdev',
        `driver=file,node-name=file,filename=${image},read-only=on`,
        '--blockdev',
        'driver=qcow2,node-name=disk,file=file,read-only=on',
        '--export',
        `type=fuse,id=export,node-name=disk,mountpoint=${file},growable=off,writable=off`,
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    await until(() => fs.statSync(file).size > 0, 'qemu-storage-daemon does not serve');
    return { file, pid: daemon.pid ?? 0, stop: () => ended(daemon) };
  },
};

const plainFile: Server = {
  name: 'plain file',
  start: async (_image, _home, raw) => ({ file: raw, stop: async () => {} }),
};

/** In the order of the table; the first is compared with the second. */
export const SERVERS: readonly Server[] = [
  imgfsServer('imgfs'),
  storageDaemon,
  imgfsServer('imgfs, fuse-native', '--adapter', 'fuse-native'),
  plainFile,
];

async function ended(daemon: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => daemon.once('exit', resolve));
  daemon.kill('SIGTERM');
  await gone;
}

async function until(met: () => boolean, otherwise: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!met()) {
    if (performance.now() > deadline) throw new Error(otherwise);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
