/**
 * Starts a part of the program from one script that holds all of its modules, compiled ahead: hundreds of modules take
 * longer to find, read and compile than to run. `scripts/bundle.ts` makes both files. A CommonJS module, as is what the
 * script is made of: node has it running sooner.
 */
import fs = require('node:fs');
import path = require('node:path');
import vm = require('node:vm');

/** As node wraps a CommonJS module: the program is written as such a function. */
interface Wrapped {
  exports: { readonly entries?: Readonly<Record<string, () => unknown>> };
}
type Wrapper = (module: Wrapped, require: (name: string) => unknown, directory: string, file: string) => void;

const PROGRAM = path.join(__dirname, 'program.cjs');
/** V8's own form of the compiled script. V8 refuses one that another version of it made, and compiles the text. */
const COMPILED = `${PROGRAM}.v8`;

/** Parts of node that take milliseconds to load, and that few commands use: loaded when one does. */
const LATER: ReadonlySet<string> = new Set([
  'node:child_process',
  'node:crypto',
  'node:tty',
  'node:worker_threads',
  'node:zlib',
]);

// It is ASCII: V8 keeps a byte for each character.
const text = fs.readFileSync(PROGRAM, 'latin1');
const script = new vm.Script(text, { filename: PROGRAM, ...compiled() });
const program: Wrapped = { exports: {} };
(script.runInThisContext() as Wrapper)(program, requireLater, __dirname, PROGRAM);

function compiled(): { cachedData?: Buffer } {
  try {
    return { cachedData: fs.readFileSync(COMPILED) };
  } catch {
    return {};
  }
}

/** The program asks what it gets for one name at a time: esbuild leaves imports by name, and the default alone, like that. */
function requireLater(name: string): unknown {
  return LATER.has(name) ? new Proxy({}, { get: (_, key) => Reflect.get(require(name), key) }) : require(name);
}

/** Runs the module that was compiled to this path, relative to this one's folder, and returns what it exports. */
function start(entry: string): unknown {
  const load = program.exports.entries?.[entry];
  if (load === undefined) throw new Error(`the program has no part called ${entry}`);
  return load();
}

/** Keeps what V8 has compiled by now for the starts to come. For the build alone. */
function keepCompiled(): void {
  fs.writeFileSync(COMPILED, script.createCachedData());
}

export = { start, keepCompiled, wasCompiled: script.cachedDataRejected === false };
