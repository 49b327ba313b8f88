import type { Command } from 'commander';
import { formats } from '../formats/index.js';
import { type OptionValue, OptionValues } from '../image/creation.js';
import type { ImageFormat } from '../image/format.js';
import { createImage, type WantedBacking } from '../image/new-image.js';
import { ImgfsError } from '../lib/errors.js';
import { asksForHelp, createHelp, parseCreateOptions, shown } from './create-options.js';
import { assertNotMounted } from './mounted-hint.js';
import { backingWanted, creatable } from './new-images.js';
import { NewPassphrase } from './new-passphrase.js';
import { collected, declarePasswordOption } from './open-options.js';
import { print, warn } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine } from './progress.js';
import { parseSize } from './sizes.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface CreateFlags extends ProgressFlags {
  readonly format: string;
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly unsafe?: true;
  readonly options?: readonly string[];
  readonly allowRefs?: readonly string[];
  readonly refs: boolean;
  readonly passwordFile?: readonly string[];
  readonly object?: readonly string[];
}

const ABOUT =
  'Nothing appears under its name before it is complete. A regular file of that name is replaced, keeping its owner and ' +
  'mode, unless it is in use; a block device is overwritten where it is.';

/** `imgfs create`: makes an empty image. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .description(`${command.description()} ${ABOUT}`)
      .argument('[file]', 'the image to make')
      .argument('[size]', 'the size of its disk; by default that of the backing file')
      .option('-f, --format <fmt>', 'its format', 'raw')
      .option('-b, --backing <file>', 'the image below it, as its directory calls it')
      .option('-F, --backing-format <fmt>', 'the format of the image below')
      .option('-u, --unsafe', 'do not open the image below')
      .option(
        '-o, --options <list>',
        'options of the format, NAME=VALUE,...; "help" lists them (repeatable)',
        collected,
      )
      .option('--allow-refs <dir>', 'let the image below name files in this directory too (repeatable)', collected)
      .option('--no-refs', 'open no file that the image below names')
      .option('--object <secret>', 'as qemu-img has it: secret,id=ID,file=FILE, for key-secret=ID', collected);
    declarePasswordOption(command);
    declareProgress(command);
    command.option('-q, --quiet', 'print nothing');
  },
  run(command: Command) {
    const flags = command.opts<CreateFlags>();
    const format = creatable(flags.format);
    const lists = flags.options ?? [];
    if (asksForHelp(lists)) {
      print(createHelp(format));
      return 0;
    }
    const [path, sizeText] = command.args;
    if (path === undefined) throw new ImgfsError('usage', 'no file named', { hint: 'see imgfs help create' });
    const values = parseCreateOptions(lists, format);
    const backing = backingWanted(format, values, {
      name: flags.backing,
      format: flags.backingFormat,
      open: flags.unsafe !== true,
    });
    const size = make(path, format, { flags, values, backing, size: sizeOf(sizeText, values) });
    if (flags.quiet !== true) print(`Formatting '${path}', ${summary(format, { size, backing, values })}\n`);
    return 0;
  },
};

function sizeOf(text: string | undefined, values: ReadonlyMap<string, OptionValue>): number | undefined {
  const given = values.get('size');
  if (text === undefined) return typeof given === 'number' ? given : undefined;
  if (given !== undefined) throw new ImgfsError('usage', 'the size is given twice');
  return parseSize(text, 'size');
}

interface Wishes {
  readonly flags: CreateFlags;
  readonly values: ReadonlyMap<string, OptionValue>;
  readonly backing: WantedBacking | undefined;
  readonly size: number | undefined;
}

/** Returns the size. Throws `busy` for an image that is mounted, also where the mount would not notice. */
function make(path: string, format: ImageFormat, { flags, values, backing, size }: Wishes): number {
  assertNotMounted(path);
  const line = new ProgressLine({ verb: 'create', label: 'creating', total: size }, flags);
  const passphrase = new NewPassphrase(path, flags, values);
  try {
    return createImage({
      path,
      format,
      size,
      backing,
      values: new OptionValues(values),
      passphrase: () => passphrase.read(),
      references: { follow: flags.refs, allowed: flags.allowRefs ?? [] },
      formats,
      warn: (message) => {
        line.clear();
        warn(message);
      },
      progress: (part) => line.show(part),
    });
  } finally {
    passphrase.wipe();
    line.end();
  }
}

/** What was made, in qemu-img's words: options with the value that counts. */
function summary(
  format: ImageFormat,
  { size, backing, values }: Pick<Wishes, 'backing' | 'values'> & { readonly size: number },
): string {
  const own = new OptionValues(values);
  const general = { size, backing_file: backing?.name, backing_fmt: backing?.format };
  // What encryption would be like says nothing of an image without it.
  const special = (format.creation?.options ?? [])
    .filter(({ name }) => !/^encrypt/.test(name) || values.has(name))
    .map((option) => [option.name, own.get(option)] as const);
  const words = [...Object.entries(general), ...special].flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${shown(value)}`],
  );
  return [`fmt=${format.name}`, ...words].join(' ');
}
