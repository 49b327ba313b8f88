/** The program where `make install` puts it, with nothing but what is installed. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { fromDisks } from '../../src/formats/qcow2/samples/image.js';
import { mountObstacle, place, unless } from '../support/place.js';
import { must, run } from '../support/program.js';

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));

describe('the installed program', () => {
  unless(mountObstacle());
  const here = place();

  it('mounts from its own directory, with its own dependencies only', () => {
    const home = here.path('usr/lib/imgfs');
    fs.mkdirSync(path.join(home, 'dist'), { recursive: true });
    const { dependencies, files, bin } = JSON.parse(fs.readFileSync(path.join(PROJECT, 'package.json'), 'utf8')) as {
      readonly dependencies: Readonly<Record<string, string>>;
      readonly files: readonly string[];
      readonly bin: { readonly imgfs: string };
    };
    fs.copyFileSync(path.join(PROJECT, 'package.json'), path.join(home, 'package.json'));
    expect(files).to.include('dist/src');
    fs.cpSync(path.join(PROJECT, 'dist/src'), path.join(home, 'dist/src'), { recursive: true });
    for (const name of runtimePackages(Object.keys(dependencies))) {
      fs.mkdirSync(path.dirname(path.join(home, 'node_modules', name)), { recursive: true });
      fs.symlinkSync(path.join(PROJECT, 'node_modules', name), path.join(home, 'node_modules', name));
    }
    const program = here.path('usr/bin/imgfs');
    fs.mkdirSync(path.dirname(program));
    fs.chmodSync(path.join(home, bin.imgfs), 0o755);
    fs.symlinkSync(path.join('../lib/imgfs', bin.imgfs), program);
    const image = here.file('disk.qcow2', fromDisks([{ disk: Buffer.alloc(9, 'disk') }]));
    const at = here.mountpoint();
    expect(run(program, [image, at, '-o', 'ro'])).to.deep.equal({ code: 0, stdout: '', stderr: '' });
    expect(fs.readFileSync(path.join(at, 'disk.raw'), 'latin1')).to.equal('diskdiskd');
    expect(must(program, 'list')).to.include(at);
    must(program, 'umount', at);
  });
});

/** The packages named and what they need in turn. */
function runtimePackages(names: readonly string[]): ReadonlySet<string> {
  const found = new Set<string>();
  const visit = (name: string): void => {
    const file = path.join(PROJECT, 'node_modules', name, 'package.json');
    if (found.has(name) || !fs.existsSync(file)) return;
    found.add(name);
    const { dependencies = {} } = JSON.parse(fs.readFileSync(file, 'utf8')) as {
      dependencies?: Record<string, string>;
    };
    for (const next of Object.keys(dependencies)) visit(next);
  };
  for (const name of names) visit(name);
  return found;
}
