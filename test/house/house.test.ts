import fs from 'node:fs';
import path from 'node:path';
import { expect } from 'chai';
import { supportTable } from '../../src/cli/support-table.js';
import { formats } from '../../src/formats/index.js';
import { wasCompiled } from '../../src/start.cjs';
import { differenceList } from '../differential/difference-list.js';
import { run } from '../support/program.js';
import { withScratch } from '../support/scratch.js';

const ROOT = path.resolve(import.meta.dirname, '../../..');

/** Every TypeScript source beneath a folder of the checkout. */
function sources(...folders: readonly string[]): readonly string[] {
  return folders.flatMap((folder) =>
    fs
      .readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.c?ts$/.test(name))
      .map((name) => path.join(folder, name)),
  );
}

function text(name: string): string {
  return fs.readFileSync(path.join(ROOT, name), 'utf8');
}

/** Code without comments, strings and regular expressions' escapes: what a hexadecimal literal can stand in. */
function code(name: string): string {
  return text(name)
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/\/\/.*$/gm, '')
    .replace(/'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g, "''");
}

describe('rules of the house', () => {
  it('source is ASCII only', () => {
    const bad = sources('src', 'test', 'bench', 'scripts').filter((name) => /[^\n\r\t -~]/.test(text(name)));
    expect(bad).to.deep.equal([]);
  });

  it('drivers decode on-disk bytes in layout.ts only: no hexadecimal literal elsewhere', () => {
    const drivers = sources('src/formats').filter((name) => path.basename(name) !== 'layout.ts');
    expect(drivers.filter((name) => /\b0x[0-9a-f]/i.test(code(name)))).to.deep.equal([]);
  });

  it('drivers import only storage, image, codec and lib', () => {
    const drivers = sources('src/formats').filter((name) => path.dirname(name) !== 'src/formats');
    const bad = drivers.flatMap((name) => {
      const [, , own] = name.split(path.sep);
      const allowed = new RegExp(`^src/(storage|image|codec|lib|formats/${own})/`);
      return [...text(name).matchAll(/^import [^;]*?from '([^']+)';$/gm)]
        .map((match) => match[1] ?? '')
        .filter((from) => from !== 'lru-cache' && !allowed.test(path.join(path.dirname(name), from)))
        .map((from) => `${name} imports ${from}`);
    });
    expect(bad).to.deep.equal([]);
  });

  it('the FFI is loaded in one file', () => {
    expect(sources('src').filter((name) => text(name).includes("'koffi'"))).to.deep.equal(['src/lib/ffi.ts']);
  });

  it('no dependency needs an install script', () => {
    const lock = JSON.parse(text('package-lock.json')) as { packages: Record<string, { hasInstallScript?: boolean }> };
    const scripted = Object.entries(lock.packages).filter(([, entry]) => entry.hasInstallScript === true);
    // These ship their binaries in packages; their scripts only build where there is none, or check that it is there.
    const known = ['node_modules/esbuild', 'node_modules/fuse-native', 'node_modules/koffi'];
    expect(scripted.map(([name]) => name).filter((name) => !known.includes(name))).to.deep.equal([]);
  });
});

describe('the README', () => {
  it('has the support table that the formats give', () => {
    expect(text('README.md')).to.include(supportTable(formats));
  });

  it('lists the differences to qemu-img that the differential suite knows', () => {
    expect(text('README.md')).to.include(`-->\n\n${differenceList()}\n<!-- end of differences -->`);
  });
});

describe('the program', () => {
  it('starts from what the build compiled', () => {
    expect(wasCompiled).to.equal(true);
  });

  it('finds the FFI where packages see nothing but what they depend on themselves', () => {
    withScratch('strict', (directory) => {
      // As strict package managers lay packages out: each beside what it depends on, and nothing else.
      for (const [from, to] of [
        ['dist', 'imgfs/node_modules/imgfs/dist'],
        ['node_modules/koffi', 'koffi/node_modules/koffi'],
        ['node_modules/@koromix', 'koffi/node_modules/@koromix'],
      ] as const) {
        fs.cpSync(path.join(ROOT, from), path.join(directory, to), { recursive: true });
      }
      fs.symlinkSync('../../koffi/node_modules/koffi', path.join(directory, 'imgfs/node_modules/koffi'));
      fs.writeFileSync(path.join(directory, 'disk.raw'), Buffer.alloc(512));
      const program = path.join(directory, 'imgfs/node_modules/imgfs/dist/src/imgfs.cjs');
      const { code, stderr } = run(process.execPath, [program, 'info', path.join(directory, 'disk.raw')]);
      // It would say that locks are not checked.
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    });
  });
});
