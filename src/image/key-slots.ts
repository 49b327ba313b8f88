import { readLuksHeader } from '../codec/luks/header.js';
import type { HeaderFields } from '../codec/luks/layout.js';
import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import { HostFiles, READ_ONLY } from './files.js';
import type { Format } from './format.js';
import { DEFAULT_LIMITS } from './limits.js';
import { formatOf } from './probe.js';

export interface KeySlotOptions {
  readonly formats: readonly Format[];
  /** Undefined probes. */
  readonly format?: string | undefined;
  /** Under a writer's locks, so that nobody else has the image open. */
  readonly writable: boolean;
  readonly warn: (message: string) => void;
}

/**
 * Calls `action` with the LUKS header of the image at `path` and the storage that begins with it; the file is closed
 * afterwards. Opens that one file. Throws `unsupported` for an image without key slots, what opening and reading the
 * header throw, and what `action` does.
 */
export function withKeySlots<T>(
  path: string,
  options: KeySlotOptions,
  action: (head: Storage, header: HeaderFields) => T,
): T {
  const { formats, format: declared, writable, warn } = options;
  const files = new HostFiles(writable ? 'no-writers' : 'anyone', warn);
  const file = files.open(path, { ...READ_ONLY, writable });
  const storage = files.storage(file);
  try {
    const format = formatOf({ storage, formats, declared, device: file.device });
    const head = format.kind === 'image' ? format.keySlots?.(storage, DEFAULT_LIMITS) : undefined;
    if (head === undefined) throw new ImgfsError('unsupported', `${path} is ${format.name} without LUKS key slots`);
    return action(head, readLuksHeader(head));
  } finally {
    storage.close();
  }
}
