/**
 * Overlays: a qcow2 image above any image, or above a snapshot of one, which takes every write. The image below is
 * opened read-only and handed to the driver, so that what the overlay stores as its name is only compared, never
 * followed.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { formats } from '../formats/index.js';
import { type NewBacking, OptionValues } from '../image/creation.js';
import { identityOf } from '../image/files.js';
import type { Reference } from '../image/format.js';
import type { MemberPlan } from '../image/members.js';
import { type BelowImage, type OpenedImage, type OpenOptions, openImage, openMade } from '../image/open.js';
import { formatNamed } from '../image/probe.js';
import { hostError, ImgfsError, systemCode } from '../lib/errors.js';
import { randomBytes } from '../lib/random.js';
import { FileStorage } from '../storage/file.js';

const FORMAT = 'qcow2';
/** Not /tmp, which may be memory. */
const TEMPORARY = '/var/tmp';

export interface OverlayRequest {
  /** A path, or `tmp` for one that has no name and is gone with the mount. */
  readonly at: string;
  /** Open for reading. Closed with the overlay, unless this throws. */
  readonly base: OpenedImage;
  /** Id of the snapshot of `base` that lies below a temporary overlay; undefined for the disk itself. */
  readonly snapshot: string | undefined;
  /** How the base was opened, and `write`. */
  readonly options: OpenOptions;
}

/**
 * Opens the overlay, or makes it where there is none (mode 0600). Throws `refused` for one that belongs to another
 * image, and what opening an image throws.
 */
export function openOverlay(request: OverlayRequest): OpenedImage {
  const { at, base, snapshot } = request;
  const image = snapshot === undefined ? base.image : base.image.openSnapshot(snapshot);
  const below: BelowImage = { image, plan: { ...base.plan, snapshot }, chain: base.chain };
  const fd = at === 'tmp' ? temporary() : made(at);
  if (fd === undefined) return reused(request, below);
  const name = at === 'tmp' ? `the overlay of ${base.file.name}` : at;
  try {
    const { format } = base.plan;
    create(fd, name, image.size, { name: nameOf(base, at), format, image, modified: base.file.mtimeSeconds });
  } catch (error) {
    fs.closeSync(fd);
    if (at !== 'tmp') fs.rmSync(at, { force: true });
    throw error;
  }
  if (at === 'tmp')
    return openMade(
      fd,
      name,
      overlayOptions(request, () => below),
    );
  fs.closeSync(fd);
  return openImage(
    at,
    overlayOptions(request, () => below),
  );
}

function reused(request: OverlayRequest, below: BelowImage): OpenedImage {
  const opened = openImage(
    request.at,
    overlayOptions(request, (reference) => checked(request, below, reference)),
  );
  if (opened.image.backing !== undefined) return opened;
  opened.image.close();
  throw refusal(request.at, 'has no backing file');
}

function overlayOptions({ options }: OverlayRequest, below: (reference: Reference) => BelowImage): OpenOptions {
  return { ...options, format: FORMAT, below };
}

/** A new file of that name, open; undefined where there is one already. */
function made(path: string): number | undefined {
  try {
    return fs.openSync(path, 'wx+', 0o600);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return undefined;
    throw hostError(`cannot make the overlay ${path}`, error);
  }
}

function temporary(): number {
  const path = join(process.env.TMPDIR ?? TEMPORARY, `imgfs-${randomUUID()}`);
  const fd = made(path);
  if (fd === undefined) throw new ImgfsError('exists', `${path} is there already`);
  fs.unlinkSync(path);
  return fd;
}

function create(fd: number, name: string, size: number, backing: NewBacking): void {
  const format = formatNamed(formats, FORMAT);
  if (format.kind !== 'image' || format.creation === undefined) throw new Error(`${FORMAT} images cannot be made`);
  const storage = new FileStorage({ fd, name, size: 0, writable: true });
  format.creation.create(
    storage,
    { size, backing, values: new OptionValues() },
    {
      fileName: basename(name),
      makeStorage: () => {
        throw new Error('an overlay is a single file');
      },
      randomBytes,
      passphrase: () => {
        throw new Error('an overlay is not encrypted');
      },
      processorTime: () => 0,
      now: Math.floor(Date.now() / 1000),
    },
  );
}

/** How other programs find the base from the overlay: relative where it lies beneath the overlay's directory. */
function nameOf(base: OpenedImage, at: string): string {
  if (at === 'tmp') return base.file.path;
  if (base.plan.within !== undefined) return nameWithin(base, base.plan.within);
  const path = relative(fs.realpathSync(dirname(at)), base.file.path);
  return path.startsWith('..') || path.includes(':') || isAbsolute(path) ? base.file.path : path;
}

/** QEMU's way to name an image that is a range of a file: it can open the overlay, too. */
function nameWithin({ file, plan }: OpenedImage, { name, parts, unpacking }: MemberPlan): string {
  const [only, ...others] = parts;
  if (only === undefined || others.length > 0 || unpacking !== undefined) {
    throw new ImgfsError(
      'unsupported',
      `${name} does not lie in one piece as it is: nothing can name it as a backing image`,
      {
        hint: 'use --overlay tmp, or unpack the appliance',
      },
    );
  }
  const below = { driver: 'raw', offset: only.at, size: only.length, file: { driver: 'file', filename: file.path } };
  return `json:${JSON.stringify({ driver: plan.format, file: below })}`;
}

/** The overlay must have been made for this very image, of this format. */
function checked({ at, base }: OverlayRequest, below: BelowImage, reference: Reference): BelowImage {
  const { within } = base.plan;
  if (within !== undefined) {
    if (reference.name === nameWithin(base, within)) return below;
    throw refusal(at, `belongs to "${reference.name}", not to ${within.name}`);
  }
  const path = resolve(fs.realpathSync(dirname(at)), reference.name);
  if (!isSameFile(path, base.file.identity))
    throw refusal(at, `belongs to "${reference.name}", not to ${base.file.name}`);
  if (reference.format !== base.plan.format) {
    throw refusal(
      at,
      `takes ${base.file.name} for ${reference.format ?? 'no certain format'}, not ${base.plan.format}`,
    );
  }
  return below;
}

function refusal(at: string, why: string): ImgfsError {
  return new ImgfsError('refused', `the overlay ${at} ${why}`, { hint: 'name another, or --overlay tmp' });
}

function isSameFile(path: string, identity: string): boolean {
  try {
    return identityOf(path) === identity;
  } catch {
    return false;
  }
}
