import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** A directory of this suite, made before its tests and removed after them. Call inside `describe`. */
export function scratch(): { path(name: string): string } {
  let directory = '';
  before(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-test-'));
  });
  after(() => {
    fs.rmSync(directory, { recursive: true, force: true });
  });
  return { path: (name) => path.join(directory, name) };
}

/** Runs `body` with a fresh directory that is removed afterwards. */
export function withScratch<T>(label: string, body: (directory: string) => T): T {
  const directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), `imgfs-${label}-`)));
  try {
    return body(directory);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

/** Runs `body` with a loop device over `file`, detached afterwards. Needs root. */
export function withLoopDevice<T>(file: string, options: readonly string[], body: (device: string) => T): T {
  const device = execFileSync('losetup', ['--find', '--show', ...options, file], { encoding: 'utf8' }).trim();
  try {
    return body(device);
  } finally {
    execFileSync('losetup', ['--detach', device]);
  }
}

/** Why loop devices cannot be used here, or undefined where they can. */
export function noLoopDevices(): string | undefined {
  if (process.getuid?.() !== 0) return 'loop devices need root';
  if (!fs.existsSync('/dev/loop-control')) return 'there is no /dev/loop-control';
  return hasTool('losetup') ? undefined : 'losetup is not installed';
}

/** Whether a program can be started. */
export function hasTool(name: string): boolean {
  const directories = (process.env.PATH ?? '').split(':');
  return directories.some((directory) => fs.existsSync(path.join(directory, name)));
}

/** Skips the running test or suite and says why, where `reason` is given. Call it in a hook or test. */
export function skipBecause(context: Mocha.Context, reason: string | undefined): void {
  if (reason === undefined) return;
  const current = context.test ?? context.currentTest;
  if (current !== undefined) current.title = `${current.title} [skipped: ${reason}]`;
  context.skip();
}

/** The numbers of the descriptors this process has open now. */
export function openDescriptors(): readonly string[] {
  return fs.readdirSync('/proc/self/fd').filter((fd) => fs.existsSync(`/proc/self/fd/${fd}`));
}
