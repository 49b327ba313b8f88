import type { Command } from 'commander';
import { Option } from 'commander';
import { ImgfsError } from '../lib/errors.js';
import type { MountOptions, MountSettings } from '../mount/options.js';
import {
  ADAPTERS,
  applyMountList,
  CACHES,
  parseAdapter,
  parseCache,
  parseWorkers,
  withDefaults,
} from '../mount/options.js';
import { note, warn } from './output.js';
import { GivenPassphrases } from './passphrases.js';
import type { Verb } from './verb.js';
import { OWN_CODES } from './verb.js';

interface Parsed {
  readonly settings: MountSettings;
  readonly fake?: true;
}

/** `imgfs mount`, and what mount(8) runs. */
export const verb: Verb = {
  exitCodes: OWN_CODES,
  declare(command, calledAs) {
    command.argument('<paths...>', 'image..., then the mountpoint: an empty directory, or a file to show one image');
    const settings: MountSettings = {};
    command.setOptionValue('settings', settings);
    declareSettings(command, settings);
    if (calledAs !== 'helper') {
      flag(command, '-f, --foreground', 'stay in front; the log goes to the terminal', settings, (s) => {
        s.foreground = true;
      });
    }
    // What mount(8) passes: to a helper -f means to fake it, to a FUSE program to stay in front.
    if (calledAs === 'helper') command.option('-f, --fake', 'do everything but mount');
    if (calledAs !== 'verb') command.option('-s').option('-n').option('-v').option('-t <type>');
  },
  async run(command, calledAs) {
    const paths = [...command.args];
    const mountpoint = paths.pop();
    if (mountpoint === undefined || paths.length === 0) {
      throw new ImgfsError('usage', 'mount needs an image and a mountpoint', { hint: 'see imgfs help mount' });
    }
    const { settings, fake } = command.opts<Parsed>();
    if (fake) return 0;
    // mount(8) says rw where nobody said anything: there it cannot mean "or fail".
    if (calledAs !== 'verb' && settings.access === 'rw') settings.access = undefined;
    return start({ ...withDefaults(settings), images: paths, mountpoint });
  },
};

function declareSettings(command: Command, settings: MountSettings): void {
  const set = (flags: string, text: string, apply: (s: MountSettings) => void): void =>
    flag(command, flags, text, settings, apply);
  const value = (flags: string, text: string, apply: (s: MountSettings, value: string) => void): void => {
    command.addOption(new Option(flags, text).argParser((given: string) => apply(settings, given)));
  };
  set('-r, --read-only', 'mount read-only', (s) => {
    s.access = 'ro';
  });
  set('-d, --debug', 'one line per request in the log; stays in front', (s) => {
    s.trace = true;
    s.foreground = true;
  });
  value('-o, --options <list>', 'mount options, name or name=value, separated by commas', applyMountList);
  value('--format <format>', 'the format of the images; by default they are probed', (s, given) => {
    s.format = given;
  });
  value('--snapshot <name>', 'disk.raw shows this snapshot (an id, or a name)', (s, given) => {
    s.snapshot = given;
  });
  value('--adapter <name>', ADAPTERS.join(', '), (s, given) => {
    s.adapter = parseAdapter(given);
  });
  value('--cache <mode>', `${Object.keys(CACHES).join(', ')}: as QEMU has them`, (s, given) => {
    s.cache = parseCache(given);
  });
  value(
    '--overlay <file>',
    'write to this qcow2 (or tmp: to one that is gone at the end), not to the image',
    (s, given) => {
      s.overlay = given;
    },
  );
  value('--workers <n>', 'threads that serve data (4, or 1 where something can be written)', (s, given) => {
    s.workers = parseWorkers(given);
  });
  value(
    '--password-file <file>',
    'the passphrase of encrypted images ("-": from standard input), or IMAGE=FILE for one of them; may be repeated',
    (s, given) => {
      s.passwordFiles = [...(s.passwordFiles ?? []), given];
    },
  );
  value(
    '--allow-refs <path>',
    'let images name files beneath this directory, or this device; may be repeated',
    (s, given) => {
      s.allowRefs = [...(s.allowRefs ?? []), given];
    },
  );
  set('--no-refs', 'open nothing that an image names', (s) => {
    s.noRefs = true;
  });
  set('--writable-refs', 'write files too that an image names to hold its data', (s) => {
    s.writableRefs = true;
  });
  set('-U, --force-share', 'read even while another process writes', (s) => {
    s.forceShare = true;
  });
}

function flag(
  command: Command,
  flags: string,
  text: string,
  settings: MountSettings,
  apply: (s: MountSettings) => void,
): void {
  const option = new Option(flags, text);
  command.addOption(option);
  command.on(`option:${option.name()}`, () => apply(settings));
}

async function start(options: MountOptions): Promise<number> {
  const passphrases = new GivenPassphrases(options.passwordFiles);
  if (options.foreground) {
    const [{ live }, { endSoon }] = await Promise.all([import('../mount/life.js'), import('../mount/uncaught.js')]);
    try {
      await live({ options, passphrases, ready: (warnings) => announce(options, warnings), log: note });
    } finally {
      endSoon();
    }
    return 0;
  }
  const { mountInBackground } = await import('../mount/background.js');
  announce(options, await mountInBackground(options, passphrases));
  return 0;
}

/** What the user should know once it is mounted, a line each; nothing when all is as it was asked for. */
function announce(options: MountOptions, warnings: readonly string[]): void {
  for (const warning of warnings) warn(warning);
  if (process.getuid?.() !== 0 && options.allowOther !== true) {
    note('imgfs: only you can read the views: losetup and mount, as root, need -o allow_other here');
  }
}
