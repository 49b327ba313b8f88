import type { Command } from 'commander';
import { formats } from '../formats/index.js';
import type { Repair } from '../image/check.js';
import { checkDocument, checkText } from '../image/check-text.js';
import { type Examined, examineImage } from '../image/examine.js';
import { ImgfsError } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';
import { declareSourceCache } from './cache-option.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { hintWhereMounted } from './mounted-hint.js';
import { note, print, reportError, warn } from './output.js';
import { declareProgress, type ProgressFlags, ProgressLine } from './progress.js';
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
 * `imgfs check`: whether an image's structure is sound; mends it where asked. A repair that is interrupted, by Ctrl-C
 * too, leaves an image no worse than it was: each step is whole before what relies on it is written.
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
  run(command: Command) {
    const flags = command.opts<CheckFlags>();
    const [path = ''] = command.args;
    const json = wantsJson(flags);
    const { format, report } = examine(path, flags);
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

/** Findings go to standard error as they come. */
function examine(path: string, flags: CheckFlags): Examined {
  const line = new ProgressLine({ verb: 'check', label: 'checking' }, flags);
  try {
    return hintWhereMounted(path, () =>
      examineImage(path, {
        formats,
        format: flags.format,
        repair: repairAsked(flags),
        forceShare: flags.forceShare === true,
        warn,
        tell: (finding) => {
          line.clear();
          note(finding);
        },
        progress: (part) => line.show(part),
      }),
    );
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
