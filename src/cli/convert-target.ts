/** Where `convert` copies to: a new image, or one that is there. */
import { basename } from 'node:path';
import { NewAppliance } from '../appliance/new-appliance.js';
import { APPLIANCE } from '../appliance/options.js';
import { type CopiedBitmap, putBitmaps } from '../convert/bitmaps.js';
import type { JoinedDisk } from '../convert/joined.js';
import { formats } from '../formats/index.js';
import { type OptionValue, OptionValues } from '../image/creation.js';
import { FilledImage } from '../image/filled-image.js';
import type { ImageFormat } from '../image/format.js';
import type { Image } from '../image/image.js';
import type { WantedBacking } from '../image/new-image.js';
import { openImage } from '../image/open.js';
import { ImgfsError } from '../lib/errors.js';
import { cacheAccess } from './cache-option.js';
import type { ConvertFlags } from './convert-options.js';
import { parseCreateOptions } from './create-options.js';
import { assertNotMounted, hintWhereMounted } from './mounted-hint.js';
import { backingWanted, creatable } from './new-images.js';
import { NewPassphrase } from './new-passphrase.js';
import { openOptions } from './open-options.js';
import { warn } from './output.js';
import { filesFor, type GivenPassphrases } from './passphrases.js';

/** What the command line asks for. */
export interface Request {
  readonly sources: readonly string[];
  readonly path: string;
  readonly format: string;
  readonly flags: ConvertFlags;
  readonly passphrases: GivenPassphrases;
}

export interface Settings {
  /** Undefined with -n. An appliance is made around an image of that format, and has the values. */
  readonly made: { readonly format: ImageFormat; readonly values: OptionValues } | undefined;
  readonly appliance: boolean;
  /** Of a new image that will be encrypted. Its owner wipes it. */
  readonly passphrase: NewPassphrase | undefined;
  /** What lies below the target, which is taken to be what lies below the source. */
  readonly backing: WantedBacking | undefined;
}

/** What the letters say of the target. Throws `usage` and `unsupported` before anything is opened. */
export function targetSettings({ path, format: name, sources, flags }: Request): Settings {
  if (!flags.create) {
    const { backing: below } = flags;
    const backing: WantedBacking | undefined =
      below === undefined ? undefined : { name: below, format: 'raw', open: false };
    return { made: undefined, appliance: false, passphrase: undefined, backing };
  }
  assertNotMounted(path);
  const appliance = name === APPLIANCE.name;
  const format = creatable(appliance ? 'vmdk' : name);
  const optioned = appliance ? APPLIANCE : format;
  const values = parseCreateOptions(flags.options ?? [], optioned);
  if (values.has('size')) warn('option size says nothing here: the target is as large as what it is made from');
  const backing = backingWanted(optioned, values, { name: flags.backing, format: flags.backingFormat, open: true });
  if (backing !== undefined && sources.length > 1) {
    throw new ImgfsError('usage', 'several sources lie above no one backing file: leave out backing_file');
  }
  if (flags.bitmaps === true && (appliance || format.bitmaps === undefined)) {
    throw new ImgfsError('unsupported', `${path}: ${optioned.name} images have no bitmaps`);
  }
  if (flags.compress === true) assertCompressible(format, values);
  if (flags.withSnapshots === true) assertHoldsSnapshots(optioned.name, format, backing);
  const given = { ...flags, passwordFile: filesFor(flags.passwordFile ?? [], path).slice(0, 1) };
  const passphrase = new NewPassphrase(
    path,
    given,
    values,
    `--password-file ${basename(path)}=FILE, or --password-file`,
  );
  return { made: { format, values: new OptionValues(values) }, appliance, passphrase, backing };
}

/** Where the copy goes. `discard` is called where anything throws, else the others in turn. */
export interface Target {
  readonly disk: Image;
  /** Everywhere. */
  readonly isZero: boolean;
  /** Nothing more is written. What is left to do then, in steps. */
  finish(): Generator<number, void, void>;
  /** What was written, to be read; `close` ends that. */
  reread(): Pick<Image, 'size' | 'extent' | 'read' | 'openSnapshot' | 'close'>;
  /** It is what it shall be. */
  complete(): void;
  /** It ended too early. */
  discard(): void;
}

export function openTarget(
  request: Request,
  { made, appliance, passphrase, backing }: Settings,
  { size, end }: Pick<JoinedDisk, 'size' | 'end'>,
  bitmaps: readonly CopiedBitmap[],
): Target {
  if (made === undefined) return openThere(request, end, backing !== undefined);
  const { path, flags } = request;
  const references = { follow: flags.refs, allowed: flags.allowRefs ?? [] };
  if (appliance) {
    const target = new NewAppliance({ path, ...made, size, references, formats, warn });
    return {
      disk: target.image,
      isZero: true,
      finish: () => target.finish(),
      reread: () => target.reopened(),
      complete: () => target.appear(),
      discard: () => target.discard(),
    };
  }
  const target = new FilledImage({
    path,
    ...made,
    size,
    backing,
    passphrase: () => passphrase?.read() ?? new Uint8Array(),
    references,
    formats,
    warn,
  });
  if (flags.bitmaps === true && target.image.info.bitmaps === undefined) {
    target.discard();
    throw new ImgfsError('unsupported', `${path}: this version of ${made.format.name} has no bitmaps`);
  }
  return {
    disk: target.image,
    isZero: backing === undefined && !readsAsNoise(target.image),
    finish: () =>
      atOnce(() => {
        const { size: final } = target.image;
        putBitmaps(made.format, target.finish(), final, bitmaps);
      }),
    reread: () => target.reopened(),
    complete: () => target.appear(),
    discard: () => target.discard(),
  };
}

function* atOnce(work: () => unknown): Generator<number, void, void> {
  work();
  yield* [];
}

/** Whether a new image holds what the host has where nothing was written, decrypted, and not zeros. */
function readsAsNoise(image: Image): boolean {
  return image.info.encrypted && image.size > 0 && !image.extent(0, image.size).zero;
}

/** With -n: the target is there already, and is what it was until it is written. */
function openThere({ path, format, flags, passphrases }: Request, size: number, above: boolean): Target {
  const write = { references: flags.writableRefs === true, threads: false, ...cacheAccess(flags.cache) };
  const options = { ...openOptions(flags), forceShare: false, format, passphrases, write };
  const { image } = hintWhereMounted(path, () => openImage(path, options));
  const refuse = (why: string): never => {
    image.close();
    throw new ImgfsError('refused', `${path} ${why}`);
  };
  if (image.size < size) refuse(`has ${image.size} bytes: the source has ${size}`);
  if (above && image.backing === undefined) refuse('has no backing file');
  const isZero = flags.targetIsZero === true;
  if (isZero && image.backing !== undefined) refuse('has a backing file: it is not known to be zeros');
  return {
    disk: image,
    isZero,
    finish: () => atOnce(() => image.flush()),
    // What it has beyond the source is not looked at: it stays what it was.
    reread: () => ({
      size,
      extent: (at, length) => image.extent(at, length),
      read: (into, at) => image.read(into, at),
      openSnapshot: (id) => image.openSnapshot(id),
      close: () => {},
    }),
    complete: () => image.close(),
    discard() {
      try {
        image.close();
      } catch {
        // The first failure is the one to report.
      }
    },
  };
}

/** Throws `unsupported` before anything is made. */
function assertCompressible({ name }: ImageFormat, values: ReadonlyMap<string, OptionValue>): void {
  const preallocation = values.get('preallocation') ?? 'off';
  if (preallocation !== 'off') {
    throw new ImgfsError('unsupported', `what is stored compressed has no place beforehand: leave out preallocation`);
  }
  if ([...values.keys()].some((option) => /^encrypt/.test(option) && values.get(option) !== false)) {
    throw new ImgfsError('unsupported', `${name} images are compressed or encrypted, not both`);
  }
}

/** Throws `usage` or `unsupported` before anything is made. */
function assertHoldsSnapshots(name: string, format: ImageFormat, backing: WantedBacking | undefined): void {
  if (backing !== undefined)
    throw new ImgfsError('usage', '--with-snapshots copies all there is: leave out the backing file');
  if (format.can.snapshots) return;
  throw new ImgfsError('unsupported', `${name} images hold no snapshots`, { hint: 'say -O qcow2' });
}
