/** One command line run by imgfs and by qemu-img, each in a copy of one directory. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import type { Run } from '../support/imgfs.js';
import { qemuBytes, qemuImgJson } from '../support/qemu.js';
import { imgfs } from '../support/resident.js';

export interface Beside {
  readonly ours: Run;
  readonly theirs: Run;
  /** Where each ran. */
  readonly directories: { readonly ours: string; readonly theirs: string };
}

/** Runs it in fresh copies of `from`, made inside `place`. */
export function runBeside(from: string, place: string, args: readonly string[]): Beside {
  const directories = { ours: path.join(place, 'ours'), theirs: path.join(place, 'theirs') };
  for (const directory of Object.values(directories)) {
    fs.rmSync(directory, { recursive: true, force: true });
    fs.cpSync(from, directory, { recursive: true });
  }
  const { status, stdout, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8', cwd: directories.theirs });
  const ours = imgfs(args, { cwd: directories.ours });
  return { ours, theirs: { code: status, stdout, stderr }, directories };
}

/** Expects the same exit code and output, and the same disks under these names, opened with all that lies below. */
export function expectSame(both: Beside, disks: readonly string[]): void {
  const { ours, theirs, directories } = both;
  expect({ code: ours.code, stdout: ours.stdout }, `${ours.stderr}\n${theirs.stderr}`).to.deep.equal({
    code: theirs.code,
    stdout: theirs.stdout,
  });
  if (ours.code !== 0) expect(ours.stderr).to.match(/^imgfs: [^\n]*\n$/);
  for (const name of disks) {
    const [one, other] = [path.join(directories.ours, name), path.join(directories.theirs, name)];
    expect(propertiesOf(one), name).to.deep.equal(propertiesOf(other));
    const raw = ['-f', String(propertiesOf(one).format)];
    expect(qemuBytes(one, ...raw).equals(qemuBytes(other, ...raw)), `the content of ${name}`).to.equal(true);
  }
}

function propertiesOf(file: string): Readonly<Record<string, unknown>> {
  const info = qemuImgJson('info', '--output=json', file) as Readonly<Record<string, unknown>>;
  return {
    format: info.format,
    size: info['virtual-size'],
    backing: info['backing-filename'],
    backingFormat: info['backing-filename-format'],
  };
}
