/**
 * Puts what each entry of the program loads into a few files, in place of the entries that the compiler made: hundreds of
 * modules take longer to find than to run. The modules stay beside them, for tests and for whoever imports them.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** What a process or a thread begins with. */
const ENTRIES = [
  'cli/main.js',
  'convert/worker.js',
  'fuse/kernel/worker.js',
  'mount/background-main.js',
  'mount/worker.js',
];

/** Where all of it goes: one level beneath `SRC`. */
const PARTS = 'parts';

/** Without its extension. */
function partOf(entry: string): string {
  return entry.replaceAll('/', '-').replace(/\.js$/, '');
}

/** A module that asks where it lies is told where it lay before: all its neighbours are still there. */
const places: Plugin = {
  name: 'places',
  setup({ onLoad }) {
    onLoad({ filter: /\.js$/ }, ({ path: file }) => {
      const text = fs.readFileSync(file, 'utf8');
      if (!file.startsWith(SRC) || !text.includes('import.meta.url')) return undefined;
      const place = `new URL(${JSON.stringify(`../${path.relative(SRC, file)}`)}, import.meta.url).href`;
      return { contents: text.replaceAll('import.meta.url', `(${place})`), loader: 'js' };
    });
  },
};

await build({
  entryPoints: ENTRIES.map((entry) => ({ in: path.join(SRC, entry), out: partOf(entry) })),
  outdir: path.join(SRC, PARTS),
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
  logLevel: 'warning',
  plugins: [places],
});

for (const entry of ENTRIES) {
  const part = path.relative(path.dirname(entry), `${PARTS}/${partOf(entry)}.js`);
  const first = fs.readFileSync(path.join(SRC, entry), 'utf8').startsWith('#!') ? '#!/usr/bin/env node\n' : '';
  fs.writeFileSync(path.join(SRC, entry), `${first}export * from ${JSON.stringify(part)};\n`);
}
