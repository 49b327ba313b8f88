import { dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import { commitDisk } from '../convert/commit.js';
import { identityIfThere } from '../image/new-image.js';
import { type OpenedImage, openImage } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { cacheAccess } from './cache-option.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { hintWhereMounted } from './mounted-hint.js';
import { declareWriteOptions, type WriteFlags, writeOptions } from './open-options.js';
import { print } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import { parseSize } from './sizes.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface CommitFlags extends WriteFlags, ProgressFlags {
  readonly base?: string;
  readonly drop?: true;
  readonly rate?: string;
  readonly cache: string;
}

/** `imgfs commit`: writes what an image holds into what lies below it. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .argument('<image>', 'the image, which is empty afterwards')
      .option('-b, --base <file>', 'into that one of the images below it, past those between; the image is not emptied')
      .option('-d, --drop', 'do not empty the image: it is not needed any more')
      .option('-r, --rate <rate>', 'at most so many bytes a second')
      .option('-t, --cache <mode>', 'how files are written: a caching mode as of mount', 'writeback');
    declareProgress(command);
    command.option('-q, --quiet', 'print nothing');
    declareWriteOptions(command);
  },
  async run(command: Command) {
    const flags = command.opts<CommitFlags>();
    const [path = ''] = command.args;
    const rate = flags.rate === undefined ? 0 : parseSize(flags.rate, 'rate');
    const access = cacheAccess(flags.cache);
    const found = hintWhereMounted(path, () => findBase(path, flags));
    const opened = hintWhereMounted(path, () => openBoth(path, flags, access, found));
    try {
      await commit(opened, found.depth, rate === 0 ? undefined : rate, flags);
    } catch (error) {
      if (error instanceof Interrupted) endAs(error);
      throw error;
    }
    if (flags.quiet !== true) print('Image committed.\n');
    return 0;
  },
};

interface Base {
  readonly depth: number;
  readonly identity: string;
}

/** Which of the images below is meant: the first, or the one whose file `-b` names. */
function findBase(path: string, flags: CommitFlags): Base {
  const { base: wanted } = flags;
  const { image, chain } = openImage(path, { ...writeOptions(path, flags), write: undefined, passphrases: undefined });
  image.close();
  if (chain.length < 2) throw new ImgfsError('refused', `${path} has no backing file`);
  if (wanted === undefined) return { depth: 1, identity: chain[1]?.identity ?? '' };
  const places = [resolve(dirname(path), wanted), resolve(wanted)].map(identityIfThere);
  const depth = chain.findIndex(({ identity }, n) => n > 0 && places.includes(identity));
  if (depth > 0) return { depth, identity: chain[depth]?.identity ?? '' };
  const names = chain.slice(1).map((file) => file.name);
  throw new ImgfsError('refused', `${wanted} is not among what lies below ${path}`, {
    hint: `that is ${names.join(', ')}`,
  });
}

/** Opens the chain again, now for writing in both. */
function openBoth(path: string, flags: CommitFlags, access: ReturnType<typeof cacheAccess>, base: Base): OpenedImage {
  const write = { references: flags.writableRefs === true, threads: false, below: base.depth, ...access };
  const opened = openImage(path, { ...writeOptions(path, flags), write });
  if (opened.chain[base.depth]?.identity === base.identity) return opened;
  opened.image.close();
  throw new ImgfsError('busy', `what lies below ${path} has changed meanwhile`);
}

async function commit(
  { image }: OpenedImage,
  depth: number,
  rate: number | undefined,
  flags: CommitFlags,
): Promise<void> {
  const line = new ProgressLine({ verb: 'commit', label: 'committing', total: image.size }, flags);
  try {
    let base = image;
    for (let n = 0; n < depth; n++) {
      if (base.backing === undefined) throw new Error('a chain ends before its files do');
      base = base.backing;
    }
    const empty = flags.drop !== true && flags.base === undefined;
    const steps = commitDisk({ top: image, base, depth, empty, rate });
    await interruptible((run) => run(showing(steps, line)));
  } finally {
    line.end();
    image.close();
  }
}
