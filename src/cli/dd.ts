import type { Command } from 'commander';
import { copyDisk } from '../convert/copy.js';
import { PartOfDisk } from '../convert/part.js';
import { Sources } from '../convert/sources.js';
import { formats } from '../formats/index.js';
import { OptionValues } from '../image/creation.js';
import { FilledImage } from '../image/filled-image.js';
import type { ImageFormat } from '../image/format.js';
import { identityIfThere } from '../image/new-image.js';
import { type OpenedImage, openImage } from '../image/open.js';
import { roundUp } from '../lib/bits.js';
import { ImgfsError } from '../lib/errors.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { assertNotMounted, hintWhereMounted } from './mounted-hint.js';
import { creatable } from './new-images.js';
import { declareOpenOptions, diskOptions, type OpenFlags } from './open-options.js';
import { warn } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import { parseSize } from './sizes.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface DdFlags extends OpenFlags, ProgressFlags {
  readonly targetFormat: string;
}

const ABOUT =
  'Operands: if=FILE of=FILE, bs=SIZE (512), count=BLOCKS, skip=BLOCKS. What is copied ends COUNT blocks after the ' +
  'beginning of the disk, however many are skipped, as with qemu-img. The target is made anew, as convert makes it.';

const SECTOR = 512;
const LARGEST_BLOCK = 2 ** 31 - 1;

/** `imgfs dd`: copies a part of a disk into a new image. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .description(`${command.description()} ${ABOUT}`)
      .argument('[operands...]', 'NAME=VALUE')
      .option('-O, --target-format <fmt>', 'the format of the target', 'raw');
    declareOpenOptions(command, { letter: true });
    declareProgress(command);
  },
  async run(command: Command) {
    const flags = command.opts<DdFlags>();
    const wanted = parseOperands(command.args);
    try {
      await copyPart(wanted, creatable(flags.targetFormat), flags);
      return 0;
    } catch (error) {
      if (error instanceof Interrupted) endAs(error);
      throw error;
    }
  },
};

interface Wanted {
  readonly from: string;
  readonly to: string;
  /** Bytes. */
  readonly block: number;
  /** Blocks. */
  readonly count: number;
  readonly skip: number;
}

const OPERANDS = ['if', 'of', 'bs', 'count', 'skip'];

/** The last of a name counts. Throws `usage`. */
function parseOperands(operands: readonly string[]): Wanted {
  const values = new Map<string, string>();
  for (const operand of operands) {
    const equals = operand.indexOf('=');
    const name = operand.slice(0, Math.max(0, equals));
    if (!OPERANDS.includes(name)) {
      throw new ImgfsError('usage', `unknown operand "${operand}"`, { hint: `there are ${OPERANDS.join(', ')}` });
    }
    values.set(name, operand.slice(equals + 1));
  }
  const number = (name: string, usual: number): number => {
    const text = values.get(name);
    return text === undefined ? usual : parseSize(text, name);
  };
  const [from, to, block] = [values.get('if'), values.get('of'), number('bs', SECTOR)];
  if (block < 1 || block > LARGEST_BLOCK) {
    throw new ImgfsError('usage', `bs ${block} is impossible`, { hint: `it is 1 to ${LARGEST_BLOCK}` });
  }
  const wanted = { block, count: number('count', Number.POSITIVE_INFINITY), skip: number('skip', 0) };
  if (from === undefined || to === undefined) throw new ImgfsError('usage', 'both if=FILE and of=FILE are needed');
  return { from, to, ...wanted };
}

async function copyPart(wanted: Wanted, format: ImageFormat, flags: DdFlags): Promise<void> {
  const { from, to } = wanted;
  assertNotMounted(to);
  const options = diskOptions(flags);
  const sources = new Sources([from], (path): OpenedImage => hintWhereMounted(path, () => openImage(path, options)));
  try {
    const own = identityIfThere(to);
    if (own !== undefined && sources.identities().has(own)) {
      throw new ImgfsError('refused', `${to} is what would be read: a disk cannot be copied into itself`);
    }
    const { disk } = sources;
    const end = Math.min(disk.size, wanted.count * wanted.block);
    const start = wanted.skip * wanted.block;
    if (start > end) warn(`${from}: cannot skip to specified offset`);
    const part = new PartOfDisk(disk, start, Math.max(0, end - start));
    await fill(part, { path: to, format, flags });
  } finally {
    sources.close();
  }
}

async function fill(
  part: PartOfDisk,
  { path, format, flags }: { readonly path: string; readonly format: ImageFormat; readonly flags: DdFlags },
): Promise<void> {
  const target = new FilledImage({
    path,
    format,
    values: new OptionValues(new Map()),
    size: roundUp(part.size, SECTOR),
    backing: undefined,
    references: { follow: false, allowed: [] },
    formats,
    warn,
  });
  const line = new ProgressLine({ verb: 'dd', label: 'copying', total: part.size }, flags);
  try {
    const copying = {
      targetIsZero: true,
      topLayer: false,
      sparse: 4096,
      byHost: false,
      pack: false,
      outOfOrder: false,
    };
    await interruptible((run) => run(showing(copyDisk(part, target.image, copying), line)));
  } catch (error) {
    target.discard();
    throw error;
  } finally {
    line.end();
  }
  target.appear();
}
