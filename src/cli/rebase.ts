import type { Command } from 'commander';
import { checkNamed, rebaseDisk } from '../convert/rebase.js';
import { formats } from '../formats/index.js';
import type { NamedFile } from '../image/image.js';
import { identityIfThere, resolveBacking } from '../image/new-image.js';
import { type OpenedImage, openImage } from '../image/open.js';
import type { ImagePlan } from '../image/plan.js';
import { formatNamed } from '../image/probe.js';
import { ImgfsError } from '../lib/errors.js';
import { cacheAccess, declareSourceCache } from './cache-option.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { hintWhereMounted } from './mounted-hint.js';
import { declareWriteOptions, type WriteFlags, writeOptions } from './open-options.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface RebaseFlags extends WriteFlags, ProgressFlags {
  readonly backing?: string;
  readonly backingFormat?: string;
  readonly unsafe?: true;
  readonly cache: string;
  readonly forceShare?: true;
}

const ABOUT =
  'The disk stays the same: what the new backing file does not hold is copied into the image first. With -u only the ' +
  'name is changed.';

/** `imgfs rebase`: puts another image below one. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .description(`${command.description()} ${ABOUT}`)
      .argument('<image>', 'the image')
      .option('-b, --backing <file>', 'what shall lie below it, as its directory calls it; "" for nothing')
      .option('-F, --backing-format <fmt>', 'the format of that')
      .option('-u, --unsafe', 'change the name only, and open neither; without -b nothing lies below then')
      .option('-t, --cache <mode>', 'how the image is written: a caching mode as of mount', 'writeback')
      .option('-U, --force-share', 'read what lies below although another process writes it');
    declareSourceCache(command);
    declareProgress(command);
    command.option('-q, --quiet', 'print nothing');
    declareWriteOptions(command);
  },
  async run(command: Command) {
    const flags = command.opts<RebaseFlags>();
    const [path = ''] = command.args;
    const named = namedBy(flags);
    const options = {
      ...writeOptions(path, flags),
      forceShare: flags.forceShare === true,
      write: { references: flags.writableRefs === true, threads: false, ...cacheAccess(flags.cache) },
    };
    if (flags.unsafe === true) {
      rename(
        hintWhereMounted(path, () => openImage(path, { ...options, withoutBelow: true })),
        named,
      );
      return 0;
    }
    const below = named && openNext(path, named, { ...options, write: undefined });
    try {
      await rebase(
        hintWhereMounted(path, () => openImage(path, options)),
        { flags, named, below },
      );
    } catch (error) {
      if (error instanceof Interrupted) endAs(error);
      throw error;
    } finally {
      below?.image.close();
    }
    return 0;
  },
};

/** What shall lie below. Throws `usage`. */
function namedBy({ backing, backingFormat, unsafe }: RebaseFlags): NamedFile | undefined {
  const format = backingFormat === undefined ? {} : { format: formatNamed(formats, backingFormat).name };
  if (backing === undefined && unsafe !== true) {
    throw new ImgfsError('usage', 'the new backing file is not named', { hint: 'say -b FILE, or -u' });
  }
  return backing === undefined || backing === '' ? undefined : { name: backing, ...format };
}

function rename({ image, file }: OpenedImage, named: NamedFile | undefined): void {
  try {
    checkNamed(image, file.name, named);
    image.changeBacking(named);
  } finally {
    image.close();
  }
}

/** Opens what shall lie below. Throws `refused` where the image lies below that. */
function openNext(path: string, named: NamedFile, options: Parameters<typeof openImage>[1]): OpenedImage {
  const place = resolveBacking(path, named.name, 'with -u it is not opened');
  const opened = hintWhereMounted(place, () => openImage(place, { ...options, format: named.format }));
  const own = identityIfThere(path);
  if (!opened.chain.some(({ identity }) => identity === own)) return opened;
  opened.image.close();
  throw new ImgfsError('refused', `${path} would lie above itself: "${named.name}" needs it`);
}

interface Wanted {
  readonly flags: RebaseFlags;
  readonly named: NamedFile | undefined;
  readonly below: OpenedImage | undefined;
}

async function rebase(opened: OpenedImage, { flags, named, below }: Wanted): Promise<void> {
  const { image: top, file } = opened;
  try {
    checkNamed(top, file.name, named);
    const line = new ProgressLine({ verb: 'rebase', label: 'rebasing', total: top.size }, flags);
    try {
      const steps = rebaseDisk({ top, next: below?.image, named, shared: sharedFrom(opened, below) });
      await interruptible((run) => run(showing(steps, line)));
    } finally {
      line.end();
    }
  } finally {
    top.close();
  }
}

/** How far below the image what shall lie below it does already, as the same format. */
function sharedFrom({ chain, plan }: OpenedImage, below: OpenedImage | undefined): number {
  const depth = below === undefined ? -1 : chain.findIndex(({ identity }) => identity === below.file.identity);
  if (below === undefined || depth < 0) return Number.POSITIVE_INFINITY;
  let layer: ImagePlan | undefined = plan;
  for (let n = 0; n < depth; n++) layer = Object.values(layer?.images ?? {})[0];
  return layer?.format === below.plan.format ? depth : Number.POSITIVE_INFINITY;
}
