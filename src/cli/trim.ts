import type { Command } from 'commander';
import { Trim } from '../convert/trim.js';
import type { Json } from '../image/image.js';
import { openImage } from '../image/open.js';
import { jsonText } from '../lib/json-text.js';
import { sizeText } from '../lib/size-text.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { hintWhereMounted } from './mounted-hint.js';
import { declareWriteOptions, type WriteFlags, writeOptions } from './open-options.js';
import { print } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import { OWN_CODES, type Verb } from './verb.js';

interface TrimFlags extends WriteFlags, ProgressFlags, JsonFlags {
  readonly dryRun?: true;
}

const ABOUT =
  'The disk stays the same; stopped at any moment, what was given back stays so. Files that a guest deleted are no ' +
  'zeros: run fstrim in it, or in a mount.';

/** `imgfs trim`: gives back the space of what an image stores and reads as zeros. */
export const verb: Verb = {
  exitCodes: OWN_CODES,
  declare(command) {
    command
      .description(`${command.description()} ${ABOUT}`)
      .argument('<image>', 'the image')
      .option('-n, --dry-run', 'change nothing, tell what could be given back');
    declareJsonOptions(command);
    declareProgress(command);
    command.option('-q, --quiet', 'print nothing');
    declareWriteOptions(command);
  },
  async run(command: Command) {
    const flags = command.opts<TrimFlags>();
    const [path = ''] = command.args;
    const json = wantsJson(flags);
    try {
      const told = await trim(path, flags);
      if (flags.quiet !== true) print(json ? jsonText(documentOf(told)) : textOf(told));
      return 0;
    } catch (error) {
      if (error instanceof Interrupted) endAs(error);
      throw error;
    }
  },
};

interface Told {
  readonly path: string;
  readonly dryRun: boolean;
  /** Guest bytes. */
  readonly found: number;
  readonly freed: number;
  /** What the host had allocated for the image's files. */
  readonly before: number;
  readonly after: number;
}

async function trim(path: string, flags: TrimFlags): Promise<Told> {
  const dryRun = flags.dryRun === true;
  const { write, ...looking } = writeOptions(path, flags);
  const { image } = hintWhereMounted(path, () => openImage(path, dryRun ? looking : { ...looking, write }));
  try {
    const before = image.hostBytes();
    const work = new Trim(image, { dryRun });
    const line = new ProgressLine({ verb: 'trim', label: 'trimming', total: image.size }, flags);
    try {
      await interruptible((run) => run(showing(work.steps(), line)));
    } finally {
      line.end();
    }
    return { path, dryRun, found: work.found, freed: work.freed, before, after: image.hostBytes() };
  } finally {
    image.close();
  }
}

function textOf({ path, dryRun, found, freed, before, after }: Told): string {
  if (dryRun) return `${path}: ${exactly(found)} of stored zeros could be given back\n`;
  const kept = found === freed ? '' : `, ${exactly(found - freed)} could not be`;
  return `${path}: ${exactly(freed)} of stored zeros given back${kept}; it takes ${exactly(Math.max(0, before - after))} less\n`;
}

function exactly(bytes: number): string {
  return bytes < 1000 ? `${bytes} bytes` : `${sizeText(bytes)} (${bytes} bytes)`;
}

function documentOf({ path, dryRun, found, freed, before, after }: Told): Json {
  return {
    schema: 'imgfs.trim/1',
    filename: path,
    'dry-run': dryRun,
    found,
    freed,
    'actual-size-before': before,
    'actual-size': after,
  };
}
