/** From the command line to a verb: which one is meant, its arguments, its errors, its exit status. */
import fs from 'node:fs';
import { basename } from 'node:path';
import type { Command, CommanderError } from 'commander';
import { ImgfsError } from '../lib/errors.js';
import { meant } from '../lib/similar.js';
import { print, reportError } from './output.js';
import { type CalledAs, type ExitCodes, HELPER_CODES, QEMU_IMG_CODES, type Verb, type VerbEntry } from './verb.js';

/** What the command line asks for. */
export type Request =
  | { readonly kind: 'help'; readonly verb?: VerbEntry }
  | { readonly kind: 'version' }
  | { readonly kind: 'run'; readonly entry: VerbEntry; readonly calledAs: CalledAs; readonly args: readonly string[] };

const HELPER_NAMES = new Set(['mount.imgfs', 'mount.fuse.imgfs']);
/** What verbs look like. Whatever does not is an image to mount. */
const VERB_LIKE = /^[a-z][a-z-]*$/;

/** Does what the command line says and returns the exit status. Reports its errors itself; throws OutputClosed. */
export async function dispatch(
  program: string,
  args: readonly string[],
  verbs: readonly VerbEntry[],
  version: () => string,
): Promise<number> {
  let codes = isHelper(program) ? HELPER_CODES : QEMU_IMG_CODES;
  try {
    const request = understand(program, args, verbs);
    if (request.kind === 'version') print(`imgfs ${version()}\n`);
    if (request.kind === 'help') await help(request.verb, verbs);
    if (request.kind !== 'run') return 0;
    const verb = await request.entry.load();
    codes = request.calledAs === 'verb' ? verb.exitCodes : HELPER_CODES;
    const command = await commandFor(request.entry, verb, request.calledAs);
    const arranged = verb.arrange?.(request.args) ?? request.args;
    if (!parsed(command, { ...request, args: arranged })) return 0;
    return await verb.run(command, request.calledAs);
  } catch (error) {
    if (error instanceof Error && error.name === 'OutputClosed') throw error;
    reportError(error);
    return exitCode(error, codes);
  }
}

/** Throws `usage` where no verb is meant. */
export function understand(program: string, args: readonly string[], verbs: readonly VerbEntry[]): Request {
  const [first, ...rest] = args;
  if (first === '--version' || first === '-V') return { kind: 'version' };
  const mount = verbs.find((entry) => entry.name === 'mount');
  if (isHelper(program) && mount !== undefined) return { kind: 'run', entry: mount, calledAs: 'helper', args };
  if (first === undefined) throw new ImgfsError('usage', 'no verb given', { hint: 'see imgfs --help' });
  if (first === '--help' || first === '-h') return { kind: 'help' };
  if (first === 'help') {
    const [topic] = rest;
    return topic === undefined ? { kind: 'help' } : { kind: 'help', verb: entryNamed(topic, verbs) };
  }
  const entry = verbs.find((candidate) => candidate.name === first);
  if (entry !== undefined) return { kind: 'run', entry, calledAs: 'verb', args: rest };
  const isPath = !VERB_LIKE.test(first) || fs.existsSync(first);
  if (isPath && mount !== undefined) return { kind: 'run', entry: mount, calledAs: 'bare', args };
  throw unknownVerb(first, verbs);
}

function isHelper(program: string): boolean {
  return HELPER_NAMES.has(basename(program));
}

function entryNamed(name: string, verbs: readonly VerbEntry[]): VerbEntry {
  const entry = verbs.find((candidate) => candidate.name === name);
  if (entry === undefined) throw unknownVerb(name, verbs);
  return entry;
}

function unknownVerb(name: string, verbs: readonly VerbEntry[]): ImgfsError {
  const names = verbs.map((candidate) => candidate.name);
  return new ImgfsError('usage', `no verb is called "${name}"`, { hint: meant(name, names, 'see imgfs --help') });
}

async function help(entry: VerbEntry | undefined, verbs: readonly VerbEntry[]): Promise<void> {
  if (entry !== undefined) {
    const command = await commandFor(entry, await entry.load(), 'verb');
    print(command.helpInformation());
    return;
  }
  const { formats } = await import('../formats/index.js');
  const width = Math.max(...verbs.map(({ name }) => name.length));
  const lines = verbs.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  print(`Usage: imgfs VERB [options] ...
       imgfs IMAGE MOUNTPOINT [-o options]

Mounts virtual disk images: each image and each of its snapshots as a flat raw file.

${lines.join('\n')}

"imgfs help VERB" tells what a verb takes, "imgfs --version" which imgfs this is.

Supported formats: ${formats.flatMap(({ kind, name }) => (kind === 'known' ? [] : [name])).join(' ')}
`);
}

/** The verb's command, quiet and without exits of its own: errors come back as exceptions. */
async function commandFor(entry: VerbEntry, verb: Verb, calledAs: CalledAs): Promise<Command> {
  const commander = await import('commander');
  const command = new commander.Command(calledAs === 'verb' ? `imgfs ${entry.name}` : 'imgfs');
  command.description(`${entry.summary[0]?.toUpperCase()}${entry.summary.slice(1)}.`);
  command.helpOption('-h, --help', 'print this help');
  command.configureOutput({ writeOut: print, writeErr: () => {} });
  command.exitOverride();
  command.combineFlagAndOptionalValue(false);
  verb.declare(command, calledAs);
  return command;
}

/** False when help was asked for, and given. Throws `usage`. */
function parsed(command: Command, request: Request & { kind: 'run' }): boolean {
  try {
    command.parse(joined(command, request.args), { from: 'user' });
    return true;
  } catch (error) {
    if (!isCommanderError(error)) throw error;
    if (error.exitCode === 0) return false;
    throw usageError(error, request);
  }
}

/**
 * Options whose value may be left out take one only after "=", as getopt_long(3) has it: what follows them otherwise is
 * an argument of its own.
 */
function joined(command: Command, args: readonly string[]): readonly string[] {
  const end = args.indexOf('--');
  return args.map((arg, at) => {
    const takesValue = (name: string): boolean =>
      command.options.some(({ required, short, long }) => required && (name === short || name === long));
    const optional = command.options.find(({ optional, short, long }) => optional && (arg === short || arg === long));
    const isValue = (end >= 0 && at > end) || takesValue(args[at - 1] ?? '');
    return optional === undefined || isValue ? arg : `${optional.long}=`;
  });
}

function isCommanderError(error: unknown): error is CommanderError {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('commander.');
}

/** Letters of qemu-img that no verb has, and what does the same. */
const INSTEAD: Readonly<Record<string, string>> = {
  '--image-opts': 'name the file itself, and its format with -f',
  '--target-image-opts': 'name the file itself, and its format with -O',
  '--object': 'give the passphrase of an encrypted image with --password-file',
};

/** Commander's message as one line of ours. */
function usageError(error: CommanderError, request: Request & { kind: 'run' }): ImgfsError {
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const guess = /^\(Did you mean (?:one of )?(.*)\?\)$/.exec(suggestion ?? '')?.[1];
  const message = first.replace(/\.$/, '').replace(/\. ([A-Z])/, (_, letter: string) => `: ${letter.toLowerCase()}`);
  const usual = guess === undefined ? `see imgfs help ${request.entry.name}` : `did you mean ${guess}?`;
  const instead = INSTEAD[/^unknown option '([^'=]+)/.exec(message)?.[1] ?? ''];
  return new ImgfsError('usage', message, { hint: instead ?? usual });
}

function exitCode(error: unknown, codes: ExitCodes): number {
  if (!(error instanceof ImgfsError)) return codes.failure;
  if (error.reason === 'usage') return codes.usage;
  return error.reason === 'system' ? codes.system : codes.failure;
}
