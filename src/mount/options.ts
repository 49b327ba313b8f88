/**
 * What a mount can be asked for, and the one table that reads `-o name=value` lists: the same names as the long
 * options, plus what mount(8) and fstab put there.
 */
import { ImgfsError } from '../lib/errors.js';
import { similar } from '../lib/similar.js';

export const ADAPTERS = ['auto', 'kernel', 'fuse-native'] as const;
/** The caching modes, with QEMU's meanings. */
export const CACHES = {
  writeback: { direct: false, through: false, unsafe: false },
  writethrough: { direct: false, through: true, unsafe: false },
  none: { direct: true, through: false, unsafe: false },
  directsync: { direct: true, through: true, unsafe: false },
  unsafe: { direct: false, through: false, unsafe: true },
} as const;

export type CacheMode = keyof typeof CACHES;

export type AdapterChoice = (typeof ADAPTERS)[number];

/** Structured-clone data: it travels to the background process as JSON. */
export interface MountOptions {
  /** Paths as the user gave them, relative to the working directory. */
  readonly images: readonly string[];
  readonly mountpoint: string;
  /** `ro` and `rw` as asked for; undefined where nothing was said. */
  readonly access?: 'ro' | 'rw' | undefined;
  readonly foreground: boolean;
  readonly trace: boolean;
  readonly format?: string | undefined;
  readonly snapshot?: string | undefined;
  readonly adapter: AdapterChoice;
  readonly cache: CacheMode;
  /** The kernel keeps written pages and sends them later. */
  readonly writebackCache: boolean;
  /** Where writes go instead of the image: a file or directory, or `tmp`. */
  readonly overlay?: string | undefined;
  /** Data worker threads, 1 to 64; by default as many as suit the images. */
  readonly workers?: number | undefined;
  /** Files that hold passphrases of encrypted images, as `FILE` or `IMAGE=FILE`; `-` is standard input. */
  readonly passwordFiles: readonly string[];
  readonly allowRefs: readonly string[];
  readonly noRefs: boolean;
  readonly writableRefs: boolean;
  readonly forceShare: boolean;
  /** Undefined: yes for root, no for others. */
  readonly allowOther?: boolean | undefined;
  readonly nonEmpty: boolean;
}

/** What `-o` and the command line can set; all optional, later ones win. */
export type MountSettings = { -readonly [K in keyof Omit<MountOptions, 'images' | 'mountpoint'>]?: MountOptions[K] };

const MOST_WORKERS = 64;

/** Every setting has its default; the caller adds images and mountpoint. */
export function withDefaults(settings: MountSettings): Omit<MountOptions, 'images' | 'mountpoint'> {
  return {
    foreground: false,
    trace: false,
    adapter: 'auto',
    cache: 'writeback',
    writebackCache: false,
    passwordFiles: [],
    allowRefs: [],
    noRefs: false,
    writableRefs: false,
    forceShare: false,
    nonEmpty: false,
    ...settings,
  };
}

type Setter = (settings: MountSettings, value: string) => void;

const FLAGS: Readonly<Record<string, (settings: MountSettings) => void>> = {
  ro: (s) => {
    s.access = 'ro';
  },
  rw: (s) => {
    s.access = 'rw';
  },
  'no-refs': (s) => {
    s.noRefs = true;
  },
  'writable-refs': (s) => {
    s.writableRefs = true;
  },
  writeback_cache: (s) => {
    s.writebackCache = true;
  },
  'force-share': (s) => {
    s.forceShare = true;
  },
  allow_other: (s) => {
    s.allowOther = true;
  },
  noallow_other: (s) => {
    s.allowOther = false;
  },
  nonempty: (s) => {
    s.nonEmpty = true;
  },
};

const VALUES: Readonly<Record<string, Setter>> = {
  format: (s, value) => {
    s.format = value;
  },
  snapshot: (s, value) => {
    s.snapshot = value;
  },
  adapter: (s, value) => {
    s.adapter = parseAdapter(value);
  },
  workers: (s, value) => {
    s.workers = parseWorkers(value);
  },
  cache: (s, value) => {
    s.cache = parseCache(value);
  },
  overlay: (s, value) => {
    s.overlay = value;
  },
  'password-file': (s, value) => {
    s.passwordFiles = [...(s.passwordFiles ?? []), value];
  },
  'allow-refs': (s, value) => {
    s.allowRefs = [...(s.allowRefs ?? []), value];
  },
};

/** What mount(8), fstab and FUSE programs pass along and what means nothing here, or always holds. */
const IGNORED = new Set(
  (
    'dev nodev suid nosuid exec noexec atime noatime relatime norelatime strictatime diratime nodiratime sync async ' +
    'dirsync user users nouser owner group defaults nofail _netdev auto noauto default_permissions kernel_cache'
  ).split(' '),
);

/**
 * Reads one `-o` list into `settings`. A comma or backslash in a value stands behind a backslash, as in libfuse. Throws
 * `usage` naming the option, and the nearest known one.
 */
export function applyMountList(settings: MountSettings, list: string): void {
  for (const written of list.match(/(?:\\.|[^,\\])+/gs) ?? []) {
    const item = written.replace(/\\(.)/gs, '$1');
    const equals = item.indexOf('=');
    const name = equals < 0 ? item : item.slice(0, equals);
    const flag = equals < 0 ? FLAGS[name] : undefined;
    const setter = equals < 0 ? undefined : VALUES[name];
    if (flag !== undefined) flag(settings);
    else if (setter !== undefined) setter(settings, item.slice(equals + 1));
    else if (!isIgnored(name)) throw unknownOption(name, equals >= 0);
  }
}

export function parseAdapter(value: string): AdapterChoice {
  const choice = ADAPTERS.find((name) => name === value);
  if (choice === undefined) throw usage(`unknown adapter "${value}"`, `there are ${ADAPTERS.join(', ')}`);
  return choice;
}

export function parseCache(value: string): CacheMode {
  const modes = Object.keys(CACHES) as CacheMode[];
  const mode = modes.find((name) => name === value);
  if (mode === undefined) throw usage(`unknown cache mode "${value}"`, `there are ${modes.join(', ')}`);
  return mode;
}

export function parseWorkers(value: string): number {
  const count = Number(value);
  if (/^[0-9]+$/.test(value) && count >= 1 && count <= MOST_WORKERS) return count;
  throw usage(`"${value}" is no number of workers`, `give 1 to ${MOST_WORKERS}`);
}

function isIgnored(name: string): boolean {
  return IGNORED.has(name) || name.startsWith('x-') || name === 'comment' || name === 'fsname' || name === 'subtype';
}

function unknownOption(name: string, hasValue: boolean): ImgfsError {
  if (VALUES[name] !== undefined) return usage(`the mount option "${name}" needs a value`, `write ${name}=VALUE`);
  if (FLAGS[name] !== undefined && hasValue) return usage(`the mount option "${name}" takes no value`);
  const near = similar(name, [...Object.keys(FLAGS), ...Object.keys(VALUES)]);
  return usage(`unknown mount option "${name}"`, near === undefined ? undefined : `did you mean "${near}"?`);
}

function usage(message: string, hint?: string): ImgfsError {
  return new ImgfsError('usage', message, hint === undefined ? {} : { hint });
}
