import type { Command } from 'commander';
import type { Preallocation } from '../image/image.js';
import { checkNewSize } from '../image/new-size.js';
import { type OpenedImage, openImage } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { hintWhereMounted } from './mounted-hint.js';
import { declareWriteOptions, type WriteFlags, writeOptions } from './open-options.js';
import { print } from './output.js';
import { parseSize } from './sizes.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface ResizeFlags extends WriteFlags {
  readonly shrink?: true;
  readonly preallocation: string;
  readonly quiet?: true;
}

const PREALLOCATIONS: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full'];

/** `imgfs resize`: gives a disk another size. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  /** The size comes last, and one that begins with a minus sign is no option. */
  arrange(args) {
    const last = args.at(-1) ?? '';
    return /^-[0-9]/.test(last) && !args.includes('--') ? [...args.slice(0, -1), '--', last] : args;
  },
  declare(command) {
    command
      .argument('<image>', 'the image')
      .argument('<size>', 'the new size, or with + or - how much is added or taken away')
      .option('--shrink', 'delete what lies beyond a smaller size')
      .option('--preallocation <mode>', `what is set aside for the new part: ${PREALLOCATIONS.join(', ')}`, 'off');
    declareWriteOptions(command);
    command.option('-q, --quiet', 'print nothing');
  },
  run(command: Command) {
    const flags = command.opts<ResizeFlags>();
    const [path = '', text = ''] = command.args;
    const change = parseChange(text);
    const preallocation = parsePreallocation(flags.preallocation);
    const opened = hintWhereMounted(path, () => openImage(path, writeOptions(path, flags)));
    try {
      const size = newSize(opened, change, flags);
      if (preallocation !== 'off' && size <= opened.image.size) {
        throw new ImgfsError('refused', `${path}: only what a disk gains can be preallocated`);
      }
      opened.image.resize(size, preallocation);
    } finally {
      opened.image.close();
    }
    if (flags.quiet !== true) print('Image resized.\n');
    return 0;
  },
};

interface Change {
  readonly from: 'nothing' | 'present';
  readonly bytes: number;
}

function parseChange(text: string): Change {
  const [, sign, size = ''] = /^([+-]?)(.*)$/s.exec(text) ?? [];
  // "+-5" is no size.
  const bytes = parseSize(sign === '' || /^[0-9]/.test(size) ? size : text, 'size');
  return { from: sign === '' ? 'nothing' : 'present', bytes: sign === '-' ? -bytes : bytes };
}

function parsePreallocation(mode: string): Preallocation {
  const known = PREALLOCATIONS.find((one) => one === mode);
  if (known !== undefined) return known;
  throw new ImgfsError('usage', `--preallocation "${mode}" is unknown`, { hint: PREALLOCATIONS.join(', ') });
}

/** Throws `refused` where the size is impossible, or the user has not said that it may become smaller. */
function newSize({ image, file }: OpenedImage, change: Change, { shrink }: ResizeFlags): number {
  const size = change.bytes + (change.from === 'present' ? image.size : 0);
  if (size <= 0) throw new ImgfsError('refused', `${file.name}: the new size must be positive`);
  checkNewSize(image, size, file.name);
  if (size < image.size && shrink !== true) {
    throw new ImgfsError('refused', `${file.name} would lose its last ${image.size - size} bytes`, {
      hint: 'if nothing there is needed, use --shrink',
    });
  }
  return size;
}
