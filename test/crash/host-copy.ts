/** Crash states as files for qemu-img: on tmpfs where there is one, with holes, one directory per thread. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { MemoryStorage } from '../../src/storage/memory.js';
import type { RigFile } from './rig.js';

export interface QemuCheck {
  /** qemu-img's exit code: 0 clean, 2 corrupt, 3 leaks. */
  readonly code: number;
  readonly leaks: number;
  readonly output: string;
}

const CHUNK = 1024 * 1024;

/** A directory that is removed by `dispose`. */
export class HostCopy {
  private readonly directory: string;

  constructor() {
    const parent = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
    this.directory = fs.mkdtempSync(path.join(parent, 'imgfs-crash-'));
  }

  /** Writes the files of a state; returns the path of the image. */
  put(files: readonly RigFile[], contents: readonly MemoryStorage[]): string {
    for (const [n, { name }] of files.entries()) {
      const content = contents[n];
      if (content !== undefined) writeSparse(path.join(this.directory, name), content);
    }
    return path.join(this.directory, files[0]?.name ?? '');
  }

  check(image: string, format: string): QemuCheck {
    const { code, output } = this.qemuImg('check', '-f', format, '--output=json', image);
    const leaks = /"leaks": (\d+)/.exec(output);
    return { code, leaks: Number(leaks?.[1] ?? 0), output };
  }

  /** What QEMU reads: the disk, or one snapshot of it, which it cuts or fills to the size of the disk. */
  read(image: string, format: string, snapshot?: string): Buffer {
    const target = path.join(this.directory, 'converted');
    const which = snapshot === undefined ? [] : ['-l', `snapshot.name=${snapshot.replaceAll(',', ',,')}`];
    const { code, output } = this.qemuImg('convert', '-f', format, ...which, '-O', 'raw', image, target);
    if (code !== 0) throw new Error(`qemu-img cannot read it: ${output}`);
    try {
      return fs.readFileSync(target);
    } finally {
      fs.rmSync(target);
    }
  }

  /** What `qemu-img compare` has against the disk being `disk`; empty for nothing. */
  compare(image: string, format: string, disk: Uint8Array): string {
    const raw = path.join(this.directory, 'expected');
    fs.writeFileSync(raw, disk);
    const { code, output } = this.qemuImg('compare', '-f', format, '-F', 'raw', image, raw);
    return code === 0 ? '' : output;
  }

  dispose(): void {
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  /** QEMU looks for data files in the present directory. */
  private qemuImg(...args: readonly string[]): { readonly code: number; readonly output: string } {
    const options = { cwd: this.directory, encoding: 'utf8' } as const;
    const { status, stdout, stderr, error } = spawnSync('qemu-img', args, options);
    if (error !== undefined) throw error;
    return { code: status ?? 255, output: `${stdout}${stderr}` };
  }
}

function writeSparse(file: string, content: MemoryStorage): void {
  const fd = fs.openSync(file, 'w');
  try {
    fs.ftruncateSync(fd, content.size());
    for (let at = 0; at < content.size(); ) {
      const { data, length } = content.extent(at);
      const step = Math.min(length, data ? CHUNK : length);
      if (data) {
        const bytes = new Uint8Array(step);
        content.read(bytes, at);
        fs.writeSync(fd, bytes, 0, step, at);
      }
      at += step;
    }
  } finally {
    fs.closeSync(fd);
  }
}
