import type { Command } from 'commander';
import { Sources } from '../convert/sources.js';
import { formats } from '../formats/index.js';
import { type Creation, type Measured, OptionValues } from '../image/creation.js';
import type { ImageFormat } from '../image/format.js';
import { extents } from '../image/image.js';
import { type OpenedImage, openImage } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { ImgfsError } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { parseCreateOptions } from './create-options.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { hintWhereMounted } from './mounted-hint.js';
import { collected, declareDiskOption, declareOpenOptions, diskOptions, type OpenFlags } from './open-options.js';
import { print } from './output.js';
import { parseSize } from './sizes.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface MeasureFlags extends JsonFlags, OpenFlags {
  readonly targetFormat: string;
  readonly options?: readonly string[];
  readonly size?: string;
  readonly snapshot?: string;
}

/** `imgfs measure`: how much space an image of a disk would take. Makes nothing, and needs no passphrase. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .argument('[image]', 'the disk that would be converted')
      .option('-O, --target-format <fmt>', 'the format of the image that would be made', 'raw')
      .option('-o, --options <list>', 'options of that format, NAME=VALUE,... (repeatable)', collected)
      .option('--size <size>', 'measure an empty image of this size')
      .option('-l, --snapshot <snapshot>', 'that snapshot of the disk: an id or a name')
      .option('--object <secret>', 'taken for the sake of scripts: nothing is encrypted here', collected);
    declareJsonOptions(command);
    declareOpenOptions(command, { letter: true });
    declareDiskOption(command);
  },
  run(command: Command) {
    const flags = command.opts<MeasureFlags>();
    const json = wantsJson(flags);
    const measured = measure(command.args[0], flags);
    print(json ? jsonText(documentOf(measured)) : textOf(measured));
    return 0;
  },
};

function measure(path: string | undefined, flags: MeasureFlags): Measured {
  if ((path === undefined) === (flags.size === undefined)) {
    throw new ImgfsError('usage', 'either --size SIZE or one image is needed', { hint: 'see imgfs help measure' });
  }
  const format = measurable(flags.targetFormat);
  const values = parseCreateOptions(flags.options ?? [], format);
  const below = values.get('backing_file');
  // Only that there is one matters.
  const backing =
    below === undefined ? undefined : { name: String(below), format: 'raw', image: undefined, modified: undefined };
  const wishes = { backing, values: new OptionValues(values) };
  if (path === undefined) return format.measure({ ...wishes, size: parseSize(flags.size ?? '', '--size') }, undefined);
  const open = (name: string): OpenedImage => hintWhereMounted(name, () => openImage(name, diskOptions(flags)));
  const sources = new Sources([path], open, flags.snapshot);
  try {
    const { disk, bitmaps } = sources;
    return format.measure({ ...wishes, size: disk.size }, { size: disk.size, bitmaps, extents: () => extents(disk) });
  } finally {
    sources.close();
  }
}

/** Throws `usage` for a format that nobody knows, `unsupported` for one whose images cannot be made. */
function measurable(name: string): ImageFormat & { readonly measure: NonNullable<Creation['measure']> } {
  const format = formatNamed(formats, name);
  const measure = format.kind === 'image' ? format.creation?.measure : undefined;
  if (format.kind === 'image' && measure !== undefined) return { ...format, measure };
  const those = formats.filter((candidate) => candidate.kind === 'image' && candidate.creation?.measure !== undefined);
  throw new ImgfsError('unsupported', `how much space ${format.name} images take cannot be told beforehand`, {
    hint: `it can of ${those.map((candidate) => candidate.name).join(', ')}`,
  });
}

function documentOf({ required, full, bitmaps }: Measured): object {
  return {
    schema: 'imgfs.measure/1',
    required,
    'fully-allocated': full,
    ...(bitmaps === undefined ? {} : { bitmaps }),
  };
}

function textOf({ required, full, bitmaps }: Measured): string {
  const lines = [`required size: ${required}`, `fully allocated size: ${full}`];
  if (bitmaps !== undefined) lines.push(`bitmaps size: ${bitmaps}`);
  return `${lines.join('\n')}\n`;
}
