import type { Command } from 'commander';
import { formats } from '../formats/index.js';
import type { BitmapAction, BitmapBits, Bitmaps } from '../image/bitmaps.js';
import type { DirtyBitmap } from '../image/image.js';
import { type Structure, withStructure } from '../image/structure.js';
import { ImgfsError, printable } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { assertNotMounted, hintWhereMounted } from './mounted-hint.js';
import { print, warn } from './output.js';
import { parseSize } from './sizes.js';
import { table } from './support-table.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface BitmapFlags extends JsonFlags {
  readonly list?: true;
  readonly sourceFile?: string;
  readonly sourceFormat?: string;
  readonly granularity?: string;
  readonly format?: string;
  readonly forceShare?: true;
  /** In the order of the command line. */
  readonly actions: readonly Asked[];
}

type Asked =
  | { readonly kind: Exclude<BitmapAction['kind'], 'merge'> }
  | { readonly kind: 'merge'; readonly source: string };

const SIMPLE = {
  add: 'add it; it records changes from now on',
  remove: 'remove it',
  clear: 'let it say that nothing has changed',
  enable: 'let it record changes',
  disable: 'let it record no changes',
} as const;

/**
 * `imgfs bitmap`: the persistent bitmaps of an image at rest. Opens that one file, and the one to merge from. Of
 * several actions all are done, in their order, or none.
 */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    const actions: Asked[] = [];
    command.setOptionValue('actions', actions);
    command.argument('<image>', 'the image').argument('[bitmap]', 'the name of the bitmap');
    for (const [kind, summary] of Object.entries(SIMPLE)) {
      command.option(`--${kind}`, summary);
      command.on(`option:${kind}`, () => actions.push({ kind: kind as keyof typeof SIMPLE }));
    }
    command
      .option('--merge <source>', 'add what the bitmap of that name says (repeatable)')
      .on('option:merge', (source: string) => actions.push({ kind: 'merge', source }));
    command
      .option('-l, --list', 'list the bitmaps')
      .option('-b, --source-file <file>', 'the image whose bitmaps are merged')
      .option('-F, --source-format <fmt>', 'the format of that image, instead of looking')
      .option('-g, --granularity <size>', 'with --add: how many bytes of the disk are one bit')
      .option('-f, --format <fmt>', 'the format of the image, instead of looking')
      .option('-U, --force-share', 'list although another process writes');
    declareJsonOptions(command);
  },
  run(command: Command) {
    const flags = command.opts<BitmapFlags>();
    const [path = '', name] = command.args;
    const json = wantsJson(flags);
    assertTogether(name, flags);
    if (flags.list === true) print(listText(path, listed(path, flags), json));
    else change(path, name ?? '', flags);
    return 0;
  },
};

/** Throws `usage` for letters that contradict each other. */
function assertTogether(name: string | undefined, { list, actions, ...flags }: BitmapFlags): void {
  const has = (kind: Asked['kind']): boolean => actions.some((action) => action.kind === kind);
  const wrong = (
    [
      [list === true && (actions.length > 0 || name !== undefined), '--list lists all bitmaps, and does nothing else'],
      [
        list !== true && actions.length === 0,
        `one of --list, ${Object.keys(SIMPLE)
          .map((kind) => `--${kind}`)
          .join(', ')} and --merge is needed`,
      ],
      [list !== true && name === undefined, 'the name of the bitmap is needed'],
      [list !== true && flags.forceShare === true, 'an image that others use cannot be changed'],
      [flags.granularity !== undefined && !has('add'), '-g is for --add'],
      [flags.sourceFormat !== undefined && flags.sourceFile === undefined, '-F is for -b'],
      [flags.sourceFile !== undefined && !has('merge'), '-b is for --merge'],
    ] as const
  ).find(([is]) => is);
  if (wrong !== undefined) throw new ImgfsError('usage', wrong[1], { hint: 'see imgfs help bitmap' });
}

function listed(path: string, { format, forceShare }: BitmapFlags): readonly DirtyBitmap[] {
  const options = { formats, format, writable: false, forceShare: forceShare === true, warn };
  return hintWhereMounted(path, () =>
    withStructure(path, options, (opened) => bitmapsOf(path, opened).list(opened.storage, opened.context.limits)),
  );
}

/** A size of 0 is none given, as qemu-img has it. */
function change(path: string, name: string, flags: BitmapFlags): void {
  const granularity = parseSize(flags.granularity ?? '0', '-g') || undefined;
  assertNotMounted(path);
  withSource(flags, (source) => {
    const actions = flags.actions.map((action): BitmapAction => {
      if (action.kind === 'add') return { kind: 'add', granularity };
      return action.kind === 'merge' ? { kind: 'merge', source: source(action.source) } : { kind: action.kind };
    });
    const options = { formats, format: flags.format, writable: true, warn };
    withStructure(path, options, (opened) => {
      bitmapsOf(path, opened).change(opened.storage, opened.context, name, actions);
    });
  });
}

/** Calls `action` with what finds the bitmaps to merge: in another file, which is open meanwhile, or by name. */
function withSource(flags: BitmapFlags, action: (source: (name: string) => string | BitmapBits) => void): void {
  const { sourceFile: path, sourceFormat: format } = flags;
  if (path === undefined) {
    action((name) => name);
    return;
  }
  withStructure(path, { formats, format, writable: false, warn }, (opened) => {
    const found = bitmapsOf(path, opened);
    action((name) => found.bits(opened.storage, opened.context.limits, name));
  });
}

function bitmapsOf(path: string, { format }: Structure): Bitmaps {
  if (format.bitmaps !== undefined) return format.bitmaps;
  throw new ImgfsError('unsupported', `${path}: ${format.name} images have no bitmaps`);
}

function listText(path: string, all: readonly DirtyBitmap[], json: boolean): string {
  const flagsOf = ({ inUse, auto }: DirtyBitmap): readonly string[] => [
    ...(inUse ? ['in-use'] : []),
    ...(auto ? ['auto'] : []),
  ];
  if (json) {
    const bitmaps = all.map((one) => ({ flags: flagsOf(one), name: one.name, granularity: one.granularity }));
    return jsonText({ schema: 'imgfs.bitmaps/1', filename: path, bitmaps });
  }
  const rows = all.map((one) => [String(one.granularity), flagsOf(one).join(',') || '-', printable(one.name)]);
  return rows.length === 0 ? '' : table([['granularity', 'flags', 'name'], ...rows]);
}
