/**
 * A scratch directory for mounts, and the certainty that nothing outlives it: no mount, no process, no loop device, no
 * record, whatever the tests did and wherever they stopped.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mounts } from '../../src/fuse/mountinfo.js';
import type { MountRecord } from '../../src/mount/records.js';
import { IMGFS, imgfs, run } from './program.js';

/** Why nothing can be mounted here; undefined where it can. */
export function mountObstacle(): string | undefined {
  if (!fs.existsSync('/dev/fuse')) return '/dev/fuse is missing';
  if (process.geteuid?.() === 0) return undefined;
  return fs.existsSync('/usr/bin/fusermount3') ? undefined : 'fusermount3 is not installed';
}

/** Skips the running suite, saying why, where it cannot run. Call inside `describe`. */
export function unless(obstacle: string | undefined): void {
  before(function () {
    if (obstacle === undefined) return;
    console.log(`skipped: ${obstacle}`);
    this.skip();
  });
}

/** For what only root can do. */
export function needsRoot(): void {
  unless(process.geteuid?.() === 0 ? mountObstacle() : 'not root');
}

/** A test that a machine or an adapter cannot have is listed with the reason, and is not counted. */
export function itWhere(reason: string | undefined, title: string, test: () => void | Promise<void>): void {
  if (reason === undefined) it(title, test);
  else before(() => console.log(`      - ${title} (does not apply: ${reason})`));
}

/** Waits until `true` comes back, twenty seconds at most. */
export async function eventually(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`still not so: ${what}`);
    await sleep(20);
  }
}

/** None where it is being written or has just gone. */
function readRecord(file: string): { readonly file: string; readonly record: MountRecord }[] {
  try {
    return [{ file, record: JSON.parse(fs.readFileSync(file, 'utf8')) as MountRecord }];
  } catch {
    return [];
  }
}

function ownRecords(): string {
  const { XDG_RUNTIME_DIR: runtime } = process.env;
  const uid = process.geteuid?.() ?? 0;
  if (uid === 0) return '/run/imgfs';
  return runtime === undefined || runtime === '' ? `/tmp/imgfs-${uid}` : path.join(runtime, 'imgfs');
}

/** Whether a process lives; a zombie does not, once its other threads have let go of its files. */
export function isRunning(pid: number): boolean {
  try {
    const isZombie = /^\d+ \(.*\) Z/s.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1'));
    return !isZombie || fs.readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}

/** A place of this suite, made before its tests, cleared after each of them. Call inside `describe`. */
export function place(): Place {
  const made = new Place();
  before(() => made.make());
  afterEach(() => made.clear());
  after(() => made.remove());
  return made;
}

export class Place {
  private root = '';
  private count = 0;
  private readonly children = new Set<ChildProcess>();

  make(): void {
    // As the kernel will show it: with links resolved.
    this.root = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-test-')));
    fs.chmodSync(this.root, 0o755);
  }

  path(name: string): string {
    return path.join(this.root, name);
  }

  /** A new file with these bytes. */
  file(name: string, bytes: Uint8Array | string): string {
    fs.writeFileSync(this.path(name), bytes);
    return this.path(name);
  }

  /** A new empty directory to mount on. */
  mountpoint(): string {
    this.count += 1;
    const made = this.path(`mnt-${this.count}`);
    fs.mkdirSync(made);
    return made;
  }

  /** Mounts read-only on a new mountpoint, and returns it. Throws what imgfs said when it fails. */
  mount(images: string | readonly string[], ...options: readonly string[]): string {
    return this.mounted(images, ['-r', ...options]);
  }

  /** Mounts so that it can be written, or throws. */
  mountToWrite(images: string | readonly string[], ...options: readonly string[]): string {
    return this.mounted(images, ['-o', 'rw', ...options]);
  }

  private mounted(images: string | readonly string[], options: readonly string[]): string {
    const at = this.mountpoint();
    const { code, stderr } = imgfs('mount', ...options, ...[images].flat(), at);
    if (code !== 0) throw new Error(`imgfs mount: status ${code}: ${stderr}`);
    return at;
  }

  /** What the process that serves a mount wrote down about it. */
  record(mountpoint: string): MountRecord {
    const found = this.records().find(({ record }) => record.mountpoint === mountpoint);
    if (found === undefined) throw new Error(`nobody serves ${mountpoint}`);
    return found.record;
  }

  /** Whether a process serves it, and has written that down: only then is it live. */
  isServed(mountpoint: string): boolean {
    return this.records().some(({ record }) => record.mountpoint === mountpoint);
  }

  /** A command that goes on; killed at the end if need be. */
  start(command: string, args: readonly string[], cwd?: string): ChildProcess {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], cwd });
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** imgfs, in front. */
  startImgfs(...args: readonly string[]): ChildProcess {
    return this.start(process.execPath, [IMGFS, ...args]);
  }

  /** Ends everything that goes on here. */
  async clear(): Promise<void> {
    for (const child of this.children) child.kill('SIGKILL');
    const records = this.records();
    for (const loop of this.loops()) {
      for (const mount of mounts().toReversed())
        if (mount.source.startsWith(loop)) run('umount', ['-l', mount.mountpoint]);
      run('losetup', ['-d', loop]);
    }
    for (const mount of mounts().toReversed())
      if (this.holds(mount.mountpoint)) run('umount', ['-l', mount.mountpoint]);
    for (const { file, record } of records) {
      if (isRunning(record.pid)) process.kill(record.pid, 'SIGKILL');
      await eventually('the server is gone', () => !isRunning(record.pid));
      for (const left of [file, record.log]) if (left !== undefined) fs.rmSync(left, { force: true });
    }
  }

  async remove(): Promise<void> {
    if (this.root === '') return;
    await this.clear();
    fs.rmSync(this.root, { recursive: true, force: true });
  }

  private holds(file: string): boolean {
    return file.startsWith(`${this.root}/`);
  }

  /** Loop devices on files here: of views, and of images. */
  private loops(): readonly string[] {
    const names = fs.existsSync('/sys/block') ? fs.readdirSync('/sys/block') : [];
    return names
      .filter((name) => name.startsWith('loop'))
      .flatMap((name) => {
        const backing = `/sys/block/${name}/loop/backing_file`;
        return fs.existsSync(backing) && this.holds(fs.readFileSync(backing, 'utf8')) ? [`/dev/${name}`] : [];
      });
  }

  /** Records of mounts here; tests of other users keep theirs here too. */
  private records(): readonly { readonly file: string; readonly record: MountRecord }[] {
    const folders = [ownRecords(), this.path('run/imgfs')].filter((folder) => fs.existsSync(folder));
    const files = folders.flatMap((folder) => fs.readdirSync(folder).map((name) => path.join(folder, name)));
    return files
      .filter((file) => file.endsWith('.json'))
      .flatMap((file) => readRecord(file))
      .filter(({ record }) => this.holds(record.mountpoint));
  }
}
