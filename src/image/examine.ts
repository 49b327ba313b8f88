/** Looking at the structure of an image that may be too damaged to be opened as a disk. */

import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { CheckOptions, CheckReport } from './check.js';
import { combinedName } from './combined-name.js';
import { isOwnExtent, liesBeside } from './extent-files.js';
import { type HostFile, HostFiles, READ_ONLY } from './files.js';
import type { Format, Reference } from './format.js';
import { openReference } from './gate.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { formatOf } from './probe.js';
import { unopenedImage, unopenedStorage } from './unopened.js';

export interface ExamineOptions extends CheckOptions {
  readonly formats: readonly Format[];
  /** Undefined probes. */
  readonly format?: string | undefined;
  /** Look although somebody writes; not together with a repair. */
  readonly forceShare: boolean;
  readonly warn: (message: string) => void;
  readonly limits?: Limits;
}

export interface Examined {
  readonly format: string;
  /** Undefined where the format has nothing that could be checked, or imgfs does not know how. */
  readonly report: CheckReport | undefined;
}

/**
 * Checks the image at `path`, and mends it where asked: then under a writer's locks, so that nobody else has it open.
 * Opens, in the first step, that one file and the extents it is made of: what else it names is neither checked nor
 * needed. Steps say what those of a check say, and throw as opening does, and what the check throws.
 */
export function* examineImage(path: string, options: ExamineOptions): Generator<number, Examined, void> {
  const files = new HostFiles(options.forceShare ? 'anyone' : 'no-writers', options.warn);
  const writable = options.repair !== 'none';
  const file = files.open(path, { ...READ_ONLY, writable });
  const storage = files.storage(file);
  try {
    const { formats, format: declared } = options;
    const format = formatOf({ storage, formats, declared, device: file.device });
    const check = format.kind === 'image' ? format.check : undefined;
    const context = {
      writable,
      limits: options.limits ?? DEFAULT_LIMITS,
      openStorage: (reference: Reference) =>
        reference.role === 'extent' ? openExtent(files, file, reference) : unopenedStorage(reference),
      openImage: unopenedImage,
    };
    return { format: format.name, report: check && (yield* check(storage, context, options)) };
  } finally {
    storage.close();
  }
}

/** An extent is mended only where it would be written with the image. */
function openExtent(files: HostFiles, naming: HostFile, reference: Reference): Storage {
  const access = { ...READ_ONLY, writable: naming.writable && isOwnExtent(reference) };
  const fd = openReference(reference, naming, { follow: true, allowed: [] }, access);
  const file = files.openedByGate(fd, combinedName(naming.name, reference.name), access);
  const storage = files.storage(file);
  if (!file.writable || liesBeside(file, naming)) return storage;
  storage.close();
  throw new ImgfsError('refused', `${file.name} is not repaired: it does not lie beside ${naming.name}`);
}
