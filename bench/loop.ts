/** A file system on a raw view, by way of a loop device. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { afterwards, run } from './workplace.js';

export type FileSystem = 'ext2' | 'ext4' | 'xfs';

export interface LoopOptions {
  /** The loop device bypasses the page cache of the file below it. */
  readonly direct?: boolean;
}

/** A loop device over a file. Detached by `end`, whatever has happened on it. */
export class Loop {
  private constructor(
    private readonly device: string,
    private readonly mountpoint: string,
  ) {}

  static async over(file: string, mountpoint: string, { direct = false }: LoopOptions = {}): Promise<Loop> {
    const { stdout } = await run('losetup', ['--find', '--show', `--direct-io=${direct ? 'on' : 'off'}`, file]);
    const loop = new Loop(stdout.trim(), mountpoint);
    fs.mkdirSync(mountpoint, { recursive: true });
    afterwards(() => loop.abandon());
    return loop;
  }

  async make(type: FileSystem): Promise<void> {
    await run(`mkfs.${type}`, ['-q', type === 'xfs' ? '-f' : '-F', this.device]);
  }

  async mount(): Promise<void> {
    await run('mount', [this.device, this.mountpoint]);
  }

  /** Returns when all that was written has reached the file below, durably as far as that file promises it. */
  async unmount(): Promise<void> {
    await run('umount', [this.mountpoint]);
    await run('blockdev', ['--flushbufs', this.device]);
  }

  async end(): Promise<void> {
    await run('losetup', ['--detach', this.device]);
    fs.rmdirSync(this.mountpoint);
  }

  private abandon(): void {
    if (!fs.existsSync(this.mountpoint)) return;
    spawnSync('umount', ['-l', this.mountpoint], { stdio: 'ignore' });
    spawnSync('losetup', ['--detach', this.device], { stdio: 'ignore' });
    fs.rmdirSync(this.mountpoint);
  }
}
