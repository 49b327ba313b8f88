/** Images opened for what is in the file itself: nothing they name is opened, and no disk is shown. */

import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import { HostFiles, READ_ONLY } from './files.js';
import type { Format, ImageFormat, OpenContext } from './format.js';
import { DEFAULT_LIMITS } from './limits.js';
import { formatOf } from './probe.js';
import { unopenedImage, unopenedStorage } from './unopened.js';

export interface StructureOptions {
  readonly formats: readonly Format[];
  /** Undefined probes. */
  readonly format?: string | undefined;
  /** Under a writer's locks, so that nobody else has the image open. */
  readonly writable: boolean;
  /** Look although somebody writes. */
  readonly forceShare?: boolean;
  readonly warn: (message: string) => void;
  readonly progress?: (part: number) => void;
}

/** An image file and what a driver may ask for. */
export interface Structure {
  readonly format: ImageFormat;
  readonly storage: Storage;
  readonly context: OpenContext;
}

/** Calls `action` with the image at `path`, which is closed afterwards. Throws as opening does, and what it throws. */
export function withStructure<T>(path: string, options: StructureOptions, action: (opened: Structure) => T): T {
  const { formats, format: declared, writable, warn, progress } = options;
  const files = new HostFiles(options.forceShare === true ? 'anyone' : 'no-writers', warn);
  const file = files.open(path, { ...READ_ONLY, writable });
  const storage = files.storage(file);
  try {
    const format = formatOf({ storage, formats, declared, device: file.device });
    if (format.kind !== 'image') throw new ImgfsError('unsupported', `${path} is ${format.name}, which is no image`);
    const context: OpenContext = {
      writable,
      limits: DEFAULT_LIMITS,
      warn,
      progress,
      openStorage: unopenedStorage,
      openImage: unopenedImage,
    };
    return action({ format, storage, context });
  } finally {
    storage.close();
  }
}
