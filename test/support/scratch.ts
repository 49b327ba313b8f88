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
