import type { Command } from 'commander';
import { formats } from '../formats/index.js';
import type { AmendValues } from '../image/amending.js';
import { OptionValues } from '../image/creation.js';
import { openImage } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { type Structure, withStructure } from '../image/structure.js';
import { ImgfsError } from '../lib/errors.js';
import { asksForHelp, createHelp, type Optioned, parseCreateOptions } from './create-options.js';
import { assertNotMounted, hintWhereMounted } from './mounted-hint.js';
import { collected, declareWriteOptions, type WriteFlags, writeOptions } from './open-options.js';
import { print, warn } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine } from './progress.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface AmendFlags extends WriteFlags, ProgressFlags {
  readonly options?: readonly string[];
}

const KEY_SLOTS = /(?:^|,)encrypt\.(?:state|new-secret|old-secret|keyslot|iter-time)=/;

/** `imgfs amend`: changes how an existing image is made. Its disk stays what it is, but for its size. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .argument('[image]', 'the image')
      .option('-o, --options <list>', 'what shall change, NAME=VALUE,...; "help" lists them (repeatable)', collected);
    declareWriteOptions(command);
    declareProgress(command);
    command.option('-q, --quiet', 'show no progress');
  },
  run(command: Command) {
    const flags = command.opts<AmendFlags>();
    const [path] = command.args;
    const lists = flags.options ?? [];
    if (asksForHelp(lists) && flags.format !== undefined) {
      print(createHelp(optionsOf(formatNamed(formats, flags.format))));
      return 0;
    }
    if (path === undefined) throw new ImgfsError('usage', 'no image named', { hint: 'see imgfs help amend' });
    if (lists.length === 0) throw new ImgfsError('usage', '-o must say what shall change');
    if (lists.some((list) => KEY_SLOTS.test(list))) {
      throw new ImgfsError('unsupported', 'key slots are not amended', { hint: 'imgfs key adds and removes them' });
    }
    assertNotMounted(path);
    const line = new ProgressLine({ verb: 'amend', label: 'amending' }, flags);
    try {
      line.show(0);
      const size = amend(path, lists, flags);
      if (size !== undefined) resize(path, size, flags);
      line.show(1);
    } finally {
      line.end();
    }
    return 0;
  },
};

/** Returns the size that is asked for. */
function amend(path: string, lists: readonly string[], flags: AmendFlags): number | undefined {
  const options = { formats, format: flags.format, writable: true, warn };
  return hintWhereMounted(path, () =>
    withStructure(path, options, ({ format, storage, context }) => {
      const optioned = optionsOf(format);
      if (asksForHelp(lists)) {
        print(createHelp(optioned));
        return undefined;
      }
      const values = parseCreateOptions(lists, optioned);
      const text = (name: string): string | undefined => values.get(name)?.toString();
      const backing: AmendValues['backing'] =
        values.has('backing_file') || values.has('backing_fmt')
          ? { name: text('backing_file'), format: text('backing_fmt') }
          : undefined;
      format.amending?.amend(storage, context, { options: new OptionValues(values), backing });
      const size = values.get('size');
      return typeof size === 'number' ? size : undefined;
    }),
  );
}

/** What `-o` takes. Throws `unsupported` where a format's images cannot be amended. */
function optionsOf(format: Structure['format'] | ReturnType<typeof formatNamed>): Optioned {
  const { name } = format;
  const amending = format.kind === 'image' ? format.amending : undefined;
  if (amending === undefined) throw new ImgfsError('unsupported', `${name} images cannot be amended`);
  return { name, creation: { options: amending.options, backing: true } };
}

/** The user has said it: a smaller disk loses its end. */
function resize(path: string, size: number, flags: AmendFlags): void {
  const { image } = openImage(path, writeOptions(path, flags));
  try {
    if (image.size !== size) image.resize(size);
  } finally {
    image.close();
  }
}
