/** Mounts of one adapter, for the tests of adapters: of the tree in served.ts, here or on a machine that lacks something. */
import { chownSync, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Adapter } from '../../src/fuse/adapter.js';
import { fuseNative } from '../../src/fuse/fuse-native/index.js';
import { kernel } from '../../src/fuse/kernel/index.js';
import type { Job } from './adapter-process.js';
import { Mounted, mountpoint, type Outcome, program } from './mounted.js';
import { unless } from './place.js';
import { fillPattern } from './served.js';

/** An adapter, and where another process finds it. */
export interface AdapterModule {
  readonly adapter: Adapter;
  readonly module: string;
  readonly exported: string;
}

const source = (folder: string): string => new URL(`../../src/fuse/${folder}/index.js`, import.meta.url).href;

export const KERNEL: AdapterModule = { adapter: kernel, module: source('kernel'), exported: 'kernel' };
export const FUSE_NATIVE: AdapterModule = {
  adapter: fuseNative,
  module: source('fuse-native'),
  exported: 'fuseNative',
};

export const NOBODY = 65534;
export const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];

/** Shell lines that prepare a machine; $1 is a scratch directory. */
export const fuseDevice = (mode: string): string => `
  mount -t tmpfs imgfs-test "$1" && mknod -m ${mode} "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse`;

export const NO_DEVICE = `
  mount -t tmpfs imgfs-test "$1" && for name in null zero random urandom; do
    touch "$1/$name" && mount --bind "/dev/$name" "$1/$name"; done && mount --move "$1" /dev`;

/** The bytes of big.raw. */
export function pattern(at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  fillPattern(bytes, at);
  return bytes;
}

/** The line of an adapter that could not mount. */
export async function failure(started: Promise<Mounted>): Promise<string> {
  return started.then(
    () => 'it mounted',
    (error: Error) => error.message,
  );
}

/** Runs a command where that process is. */
export function inside(mounted: Mounted, ...command: readonly string[]): Promise<Outcome> {
  return program('nsenter', '-t', String(mounted.process.pid), '-m', '--', ...command);
}

export const stat = async (format: string, path: string): Promise<string> =>
  (await program('stat', '-c', format, path)).stdout.toString().trim();

export const dd = (file: string, ...operands: readonly string[]): Promise<Outcome> =>
  program('dd', `if=${file}`, 'status=none', ...operands);

/** Mounts of a suite, cleared after each of its tests. Call inside `describe`. */
export function adapterMounts(of: AdapterModule): AdapterMounts {
  const root = process.geteuid?.() === 0 ? undefined : 'not root';
  unless(root ?? of.adapter.unavailable());
  const made = new AdapterMounts(of);
  afterEach(() => made.clear());
  return made;
}

export class AdapterMounts {
  private ends: (() => Promise<void>)[] = [];

  constructor(readonly of: AdapterModule) {}

  /** Mounts here, on something new unless the job says where. */
  async mount(job: Partial<Job> = {}): Promise<Mounted> {
    const path = job.mountpoint ?? this.mountpoint(job.mountpointKind);
    const mounted = await Mounted.start(this.of.module, this.of.exported, { ...job, mountpoint: path });
    this.later(() => mounted.clear());
    return mounted;
  }

  /** Mounts in a namespace prepared by `setup`, as somebody whom `as` makes of root. */
  async start(setup: string, as: readonly string[] = [], job: Partial<Job> = {}): Promise<Mounted> {
    const [path, scratch] = [this.mountpoint(job.mountpointKind), this.mountpoint()];
    if (as === AS_NOBODY) for (const one of [path, dirname(path)]) chownSync(one, NOBODY, NOBODY);
    const prepared = ['unshare', '-m', '--propagation', 'private', 'sh', '-ec', `${setup}\nshift; exec "$@"`];
    const launcher = [...prepared, 'sh', scratch, ...as];
    const mounted = await Mounted.start(this.of.module, this.of.exported, { mountpoint: path, ...job }, launcher);
    this.later(async () => {
      if (mounted.process.exitCode === null) mounted.process.kill('SIGKILL');
      await mounted.exited;
    });
    return mounted;
  }

  mountpoint(kind: 'directory' | 'file' = 'directory'): string {
    const at = mountpoint(kind);
    this.later(async () => at.remove());
    return at.path;
  }

  /** To be done after the test; what came last first. */
  later(end: () => Promise<unknown>): void {
    this.ends.push(async () => void (await end()));
  }

  async clear(): Promise<void> {
    for (const end of this.ends.splice(0).reverse()) await end();
  }
}

/** Why no such machine can be made here. */
export function namespaceObstacle(): string | undefined {
  return existsSync('/usr/bin/unshare') ? undefined : 'no unshare';
}
