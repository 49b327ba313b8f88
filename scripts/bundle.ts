/**
 * Puts the modules of the program into one script and compiles it (see src/start.cts), and has the threads and
 * processes it starts begin there. The modules stay beside them, for tests and for whoever imports them.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';

const SRC = fileURLToPath(new URL('../src', import.meta.url));
const REHEARSE = fileURLToPath(new URL('rehearse.js', import.meta.url));

/** The command line's, which src/imgfs.cts starts. */
const MAIN = 'cli/main.js';

/** What other processes and threads begin with, named as the compiler left them; with what each exports. */
const OTHERS: Readonly<Record<string, readonly string[]>> = {
  'convert/worker.js': [],
  'mount/background-main.js': [],
  'mount/worker.js': ['openData'],
};

/** Imports a module that it is told at run time, which V8 forgets how to do in a script that was compiled ahead. */
const IMPORTING = 'fuse/kernel/worker.js';

/** Found where they were installed: they bring files of their own. */
const OUTSIDE = ['@bokuweb/zstd-wasm', 'fuse-native', '@koromix/*'];

/**
 * How a module loads the FFI; and how the program does, which holds all of it but the native part. Where packages see
 * nothing but what they depend on themselves, only the FFI's own modules find that.
 */
const LOADS_FFI = "createRequire(import.meta.url)('koffi')";
const LOADS_OWN_FFI = `(() => { try { return require('koffi'); } catch { return ${LOADS_FFI}; } })()`;

/** Modules that ask where they lie are told where they lay before: all their neighbours are still there. */
function places(url: (file: string) => string, change = (text: string): string => text): Plugin {
  return {
    name: 'places',
    setup({ onLoad }) {
      onLoad({ filter: /\.js$/ }, ({ path: file }) => {
        const text = fs.readFileSync(file, 'utf8');
        if (!file.startsWith(SRC) || !text.includes('import.meta.url')) return undefined;
        return { contents: change(text).replaceAll('import.meta.url', `(${url(file)})`), loader: 'js' };
      });
    },
  };
}

const COMMON = {
  bundle: true,
  external: OUTSIDE,
  platform: 'node',
  target: 'node20',
  charset: 'ascii',
  logLevel: 'warning',
} as const;

const { metafile } = await build({
  ...COMMON,
  metafile: true,
  stdin: {
    contents: `export const entries = {
      ${[MAIN, ...Object.keys(OTHERS)].map((entry) => `'${entry}': () => require('./${entry}')`)}
    }`,
    resolveDir: SRC,
  },
  outfile: path.join(SRC, 'program.cjs'),
  format: 'cjs',
  // As node wraps a CommonJS module: see src/start.cts.
  banner: { js: '(function (module, require, __dirname, __filename) {' },
  footer: { js: '})' },
  supported: { 'dynamic-import': false },
  plugins: [
    places(
      (file) => `require('node:url').pathToFileURL(__dirname + '/${path.relative(SRC, file)}').href`,
      (text) => text.replace(LOADS_FFI, LOADS_OWN_FFI),
    ),
  ],
});

// Without it all works, but starts later.
if (!Object.keys(metafile.inputs).some((file) => file.endsWith('node_modules/koffi/index.cjs'))) {
  throw new Error(`the program does not hold the FFI: no module loads it by ${LOADS_FFI}`);
}

await build({
  ...COMMON,
  entryPoints: [path.join(SRC, IMPORTING)],
  outfile: path.join(SRC, IMPORTING),
  allowOverwrite: true,
  format: 'esm',
  plugins: [
    places(
      (file) => `new URL('${path.relative(path.dirname(IMPORTING), path.relative(SRC, file))}', import.meta.url).href`,
    ),
  ],
});

for (const [entry, names] of Object.entries(OTHERS)) {
  const starter = path.relative(path.dirname(entry), 'start.cjs');
  const exported = names.length === 0 ? '' : `export const { ${names.join(', ')} } = `;
  fs.writeFileSync(path.join(SRC, entry), `import { start } from '${starter}';\n${exported}start('${entry}');\n`);
}

/** Each adds to what is compiled what it was the first to run. */
const REHEARSALS = [
  ['create', '-f', 'qcow2', 'new.qcow2', '1M'],
  ['info', 'new.qcow2'],
  ['convert', '-O', 'raw', 'new.qcow2', 'new.raw'],
  ['convert', '-O', 'qcow2', 'new.raw', 'copy.qcow2'],
  ['map', 'copy.qcow2'],
  ['check', 'copy.qcow2'],
  ['snapshot', '-l', 'copy.qcow2'],
  ['help', 'mount'],
];
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-rehearsal-'));
try {
  // Stored data, so that what copies it runs.
  fs.writeFileSync(path.join(directory, 'new.raw'), 'data'.repeat(1024));
  for (const rehearsal of REHEARSALS) {
    const { status } = spawnSync(process.execPath, [REHEARSE, ...rehearsal], {
      cwd: directory,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    if (status !== 0) throw new Error(`imgfs ${rehearsal.join(' ')} ended with ${status}`);
  }
} finally {
  fs.rmSync(directory, { recursive: true, force: true });
}
