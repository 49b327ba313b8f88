/** The options with which every verb that opens an image lets its user say how. */
import type { Command } from 'commander';
import { formats } from '../formats/index.js';
import { ONE_PASS } from '../image/limits.js';
import { type OpenedImage, type OpenOptions, openImage } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { warn } from './output.js';
import { GivenPassphrases } from './passphrases.js';
import { ProgressLine } from './progress.js';

/** What `declareOpenOptions` adds to a command's options. */
export interface OpenFlags {
  readonly format?: string;
  readonly disk?: number;
  readonly allowRefs?: readonly string[];
  readonly refs: boolean;
  readonly forceShare?: true;
  readonly passwordFile?: readonly string[];
}

/** What `declareWriteOptions` adds. */
export interface WriteFlags extends Omit<OpenFlags, 'forceShare'> {
  readonly writableRefs?: true;
}

/** Declares them. `letter` is false where `-f` means something else (mount's foreground). */
export function declareOpenOptions(command: Command, { letter }: { readonly letter: boolean }): void {
  declareReferenceOptions(command, letter);
  command.option('-U, --force-share', 'read although another process writes');
}

/** The same for verbs that change the image. */
export function declareWriteOptions(command: Command): void {
  declareReferenceOptions(command, true);
  command.option('--writable-refs', 'write files too that the image names to hold its data');
}

/** Declares `--password-file` for a verb that may have to decrypt. */
export function declarePasswordOption(command: Command): void {
  command.option(
    '--password-file <file>',
    'the passphrase of an encrypted image ("-": from standard input), or IMAGE=FILE of one in the chain (repeatable)',
    collected,
  );
}

function declareReferenceOptions(command: Command, letter: boolean): void {
  command
    .option(`${letter ? '-f, ' : ''}--format <fmt>`, 'the format of the image, instead of looking')
    .option('--allow-refs <dir>', 'let the image name files in this directory too (repeatable)', collected)
    .option('--no-refs', 'open no file that the image names');
  declarePasswordOption(command);
}

/** Declares `--disk` for a verb that reads one disk. */
export function declareDiskOption(command: Command): void {
  command.option('--disk <n>', 'which disk of an appliance (1)', diskNumber);
}

/** The value of `--disk`. Throws `usage`. */
export function diskNumber(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text);
  throw new ImgfsError('usage', `"${text}" is no number of a disk`, { hint: 'the first is 1' });
}

/** What the user's flags mean to `openImage`. */
export function openOptions(flags: OpenFlags): OpenOptions {
  return {
    formats,
    format: flags.format,
    references: { follow: flags.refs, allowed: flags.allowRefs ?? [] },
    forceShare: flags.forceShare === true,
    passphrases: flags.passwordFile && new GivenPassphrases(flags.passwordFile),
    warn,
  };
}

/** As `openOptions`, for a verb that reads one disk, and once: of an appliance the one that is asked for, or the first. */
export function diskOptions(flags: OpenFlags): OpenOptions {
  return { ...openOptions(flags), disk: flags.disk ?? 'first', limits: ONE_PASS };
}

/** What they mean for the image at `path` that is to be changed: a repair that comes first shows how far it is. */
export function writeOptions(path: string, flags: WriteFlags): OpenOptions {
  const references = flags.writableRefs === true;
  const line = new ProgressLine({ verb: 'repair', label: `repairing ${path}` });
  const progress = (part: number): void => {
    if (part < 1) line.show(part);
    else line.end();
  };
  return { ...openOptions(flags), progress, write: { references, direct: false, unsafe: false, threads: false } };
}

/** Opens an image only to look at it: one that somebody writes is read all the same, with a warning. */
export function openToLook(path: string, options: OpenOptions): OpenedImage {
  return lookingAt(path, options, openImage);
}

/** As `openToLook`, by a way to open it that suits the verb. */
export function lookingAt<T>(path: string, options: OpenOptions, open: (path: string, how: OpenOptions) => T): T {
  try {
    return open(path, options);
  } catch (error) {
    if (!(error instanceof ImgfsError) || error.reason !== 'locked' || options.forceShare) throw error;
    warn(`${error.message}; reading it all the same, what is shown may be out of date`);
    return open(path, { ...options, forceShare: true });
  }
}

/** Gathers the values of an option that can be repeated. */
export function collected(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}
