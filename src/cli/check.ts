import type { Command } from 'commander';
import { formats } from '../formats/index.js';
import type { Repair } from '../image/check.js';
import { checkDocument, checkText } from '../image/check-text.js';
import { type Examined, examineImage } from '../image/examine.js';
import { ImgfsError } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { declareSourceCache } from './cache-option.js';
import { endAs, Interrupted, interruptible } from './interruptible.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { withMountpoint } from './mounted-hint.js';
import { note, print, reportError, warn } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine, showing } from './progress.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

interface CheckFlags extends JsonFlags, ProgressFlags {
  readonly format?: string;
  readonly repair?: string;
  readonly forceShare?: true;
}

const CODES = { ok: 0, incomplete: 1, corrupt: 2, leaks: 3, unsupported: 63 } as const;

const EXIT_STATUS =
  `Exit status: ${CODES.ok} sound, ${CODES.incomplete} the check failed, ${CODES.corrupt} corrupt, ` +
  `${CODES.leaks} space is lost but no data, ${CODES.unsupported} the format has no check.`;

/**
 * `imgfs check`: whether an image's structure is sound; mends it where asked. A repair that is stopped, by Ctrl-C too,
 * leaves an image no worse than it was: each step is whole before what relies on it is written.
 */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command
      .description(`${command.description()} ${EXIT_STATUS}`)
      .argument('<image>', 'the image')
      .option('-f, --format <fmt>', 'the format of the image, instead of looking')
      .option('-r, --repair <what>', 'mend it: leaks (give lost space back), or all');
    declareJsonOptions(command);
    declareProgress(command);
    command
      .option('-q, --quiet', 'print no report: the exit status tells')
      .option('-U, --force-share', 'check although another process writes');
    declareSourceCache(command);
  },
  async run(command: Command) {
    const flags = command.opts<CheckFlags>();
    const [path = ''] = command.args;
    const json = wantsJson(flags);
    const { format, report } = await examine(path, flags);
    if (report === undefined) {
      reportError(new ImgfsError('unsupported', `${path}: this image format does not support checks (${format})`));
      return CODES.unsupported;
    }
    if (flags.quiet !== true) {
      print(json ? jsonText(checkDocument(path, format, report)) : checkText(report));
    }
    if (report.checkErrors > 0) {
      throw new ImgfsError('io', `the check of ${path} is not complete: parts of it cannot be read`);
    }
    if (report.corruptions > 0) return CODES.corrupt;
    return report.leaks > 0 ? CODES.leaks : CODES.ok;
  },
};

/** Findings go to standard error as they come. Asked to stop, it ends this process. */
async function examine(path: string, flags: CheckFlags): Promise<Examined> {
  const repair = repairAsked(flags);
  const line = new ProgressLine({ verb: 'check', label: 'checking' }, flags);
  const tell = (finding: string): void => {
    line.clear();
    note(finding);
  };
  const forceShare = flags.forceShare === true;
  const options = { formats, format: flags.format, repair, forceShare, warn, tell };
  try {
    return await interruptible((run) => run(showing(examineImage(path, options), line)));
  } catch (error) {
    line.clear();
    if (!(error instanceof Interrupted)) throw withMountpoint(path, error);
    if (repair !== 'none') warn(`${path}: the repair was stopped; what is mended stays so, another repair goes on`);
    endAs(error);
  } finally {
    line.end();
  }
}

function repairAsked({ repair, forceShare }: CheckFlags): Repair {
  if (repair === undefined) return 'none';
  if (repair !== 'leaks' && repair !== 'all') {
    throw new ImgfsError('usage', `--repair "${repair}" is unknown`, { hint: 'leaks or all' });
  }
  if (forceShare === true) {
    throw new ImgfsError('usage', 'an image that others use cannot be repaired', { hint: 'leave out --force-share' });
  }
  return repair;
}
