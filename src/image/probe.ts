import { basename, extname } from 'node:path';
import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import { diskContents } from './content.js';
import { type Format, type ImageFormat, PROBE_BYTES } from './format.js';

/** What is to be identified, and what its user or the image that names it has declared. */
export interface ProbeRequest {
  readonly storage: Storage;
  readonly formats: readonly Format[];
  /** The declared format; then nothing is probed. */
  readonly declared?: string | undefined;
  /** A device has no meaningful extension. */
  readonly device: boolean;
}

/**
 * Decides the format of a file. Every probe runs and the order of formats means nothing: two claims are a refusal, a
 * name that contradicts the content is a refusal, so is a disk's own content where a format keeps its structures, and
 * no claim is raw. Throws `refused` or `unsupported`.
 */
export function identify(request: ProbeRequest): ImageFormat {
  return openable(request.storage, formatOf(request));
}

/** As `identify`, also of what imgfs only knows by name. Throws `refused`. */
export function formatOf(request: ProbeRequest): Format {
  const { storage, formats, declared } = request;
  if (declared !== undefined) return formatNamed(formats, declared);
  const extension = request.device ? '' : extname(basename(storage.name)).toLowerCase();
  const named = formats.filter((format) => extension !== '' && format.extensions.includes(extension));
  const rawFormat = formatNamed(formats, 'raw');
  // A raw disk is its guest's to write: by its name it is raw whatever it holds.
  if (named.includes(rawFormat)) return rawFormat;
  const found = onlyClaim(storage, formats) ?? rawFormat;
  if (named.length > 0 && !named.includes(found)) {
    const looks = found === rawFormat ? 'raw (no known header)' : found.name;
    throw new ImgfsError('refused', `${storage.name} is named like ${listed(named)} but looks like ${looks}`, {
      hint: `if it really is ${found.name}, say --format ${found.name}`,
    });
  }
  return found;
}

/** Whether a file would count as raw without its name saying so: because nothing else claims it. */
export function isGuessedRaw(format: ImageFormat, request: Pick<ProbeRequest, 'storage' | 'declared'>): boolean {
  const extension = extname(basename(request.storage.name)).toLowerCase();
  return format.name === 'raw' && request.declared === undefined && !format.extensions.includes(extension);
}

/** What QEMU calls formats that have another name here. */
const ALIASES: ReadonlyMap<string, string> = new Map([['vpc', 'vhd']]);

/** The format of that name, ours or QEMU's. */
export function formatCalled(formats: readonly Format[], name: string): Format | undefined {
  return formats.find((candidate) => candidate.name === (ALIASES.get(name) ?? name));
}

/** The format of that name. Throws `usage` with the names there are. */
export function formatNamed(formats: readonly Format[], name: string): Format {
  const format = formatCalled(formats, name);
  if (format !== undefined) return format;
  throw new ImgfsError('usage', `unknown format "${name}"`, {
    hint: `imgfs knows ${formats.map((candidate) => candidate.name).join(', ')}`,
  });
}

/** The format that claims the file, if one does. Throws `refused` where the file is two things at once. */
function onlyClaim(storage: Storage, formats: readonly Format[]): Format | undefined {
  const size = storage.size();
  const head = ends(storage, 0, size);
  const tail = size <= PROBE_BYTES ? head : ends(storage, size - PROBE_BYTES, size);
  const claims = formats.filter((format) => format.probe(head, tail, size));
  const [only] = claims;
  // What lies past a format's own structures may be its guest's, and a guest's disk may well hold a disk.
  const own = claims.length === 1 ? (only?.ownBytes?.(head) ?? 0) : 0;
  const contents = diskContents(head).filter(({ end }) => end <= own);
  const all = [...claims.map(({ name }) => name), ...contents.map(({ what }) => what)];
  if (all.length < 2) return only;
  throw new ImgfsError('refused', `${storage.name} looks like ${all.join(' and ')} at once`, {
    hint: 'say which with --format',
  });
}

function ends(storage: Storage, at: number, size: number): Buffer {
  const bytes = Buffer.alloc(Math.min(PROBE_BYTES, size - at));
  return bytes.subarray(0, storage.read(bytes, at));
}

/** Throws `unsupported` for a format whose files are not one disk. */
export function openable(storage: Storage, format: Format): ImageFormat {
  if (format.kind === 'image') return format;
  if (format.kind === 'container') {
    throw new ImgfsError('unsupported', `${storage.name} is ${format.summary} (${format.name})`, {
      hint: 'unpack it, or convert one of its disks: an image is needed here',
    });
  }
  throw new ImgfsError('unsupported', `${storage.name} is ${format.summary} (${format.name})`, {
    hint: 'imgfs cannot open this format yet',
  });
}

function listed(formats: readonly Format[]): string {
  return formats.map((format) => format.name).join(' and ');
}
