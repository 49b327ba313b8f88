import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { tidy } from './garbage.js';

/** Skips the running suite, naming the tool, where it is not installed. Call inside `describe`. */
export function needsTool(...tools: readonly string[]): void {
  before(function () {
    for (const tool of tools) {
      if (spawnSync(tool, ['--version']).error === undefined) continue;
      console.log(`skipped: ${tool} is not installed`);
      this.skip();
    }
  });
}

/** QEMU measures how fast it is before it makes a LUKS header, and gives up where its clock did not move meanwhile. */
const ATTEMPTS = 20;
const UNLUCKY = /Unable to get accurate CPU usage/;

export function qemuImg(...args: readonly string[]): string {
  tidy();
  for (let attempt = 1; ; attempt++) {
    try {
      return execFileSync('qemu-img', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    } catch (error) {
      if (attempt === ATTEMPTS || !UNLUCKY.test(String(error))) throw error;
    }
  }
}

/** qemu-img's answer as JSON. */
export function qemuImgJson(...args: readonly string[]): unknown {
  return JSON.parse(qemuImg(...args));
}

/** Runs qemu-io commands on an image (format qcow2 unless told otherwise). */
export function qemuIo(file: string, commands: readonly string[], options: readonly string[] = ['-f', 'qcow2']): void {
  const args = [...options, ...commands.flatMap((command) => ['-c', command]), file];
  const output = execFileSync('qemu-io', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  if (/failed|error/i.test(output)) throw new Error(output);
}

/** The guest's bytes as QEMU reads them; `options` choose format or snapshot. */
export function qemuBytes(file: string, ...options: readonly string[]): Buffer {
  const raw = `${file}.qemu-raw`;
  qemuImg('convert', ...options, '-O', 'raw', file, raw);
  const bytes = fs.readFileSync(raw);
  fs.rmSync(raw);
  return bytes;
}

/**
 * Has the host write out every file beside `file`: until then it may still change how much of them it calls allocated,
 * and a map that looks at holes would differ from one made a moment later.
 */
export function settle(file: string): void {
  const directory = path.dirname(file);
  for (const entry of fs.readdirSync(directory, { withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const fd = fs.openSync(path.join(directory, entry.name), 'r');
    fs.fsyncSync(fd);
    fs.closeSync(fd);
  }
}
