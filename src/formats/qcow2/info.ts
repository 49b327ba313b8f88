import type { ImageInfo, Json } from '../../image/image.js';
import type { Limits } from '../../image/limits.js';
import type { Storage } from '../../storage/storage.js';
import { readBitmaps } from './bitmaps/directory.js';
import { encryptionData } from './encryption.js';
import type { Header } from './header.js';

/**
 * What `info` prints, key by key as qemu-img does; version 2 knows only the first keys. The bitmap directory
 * (and a LUKS header) is read when `specific` is asked for: opening a disk must not depend on it.
 */
export function infoOf(storage: Storage, now: () => Header, limits: Limits): ImageInfo {
  const { clusterSize, encryption, backing } = now();
  return {
    format: 'qcow2',
    clusterSize,
    get dirty() {
      return now().dirty;
    },
    encrypted: encryption !== undefined,
    compressed: false,
    ...(backing === undefined ? {} : { backing }),
    get bitmaps() {
      const header = now();
      return header.version === 2 ? undefined : readBitmaps(storage, header, limits);
    },
    get specific() {
      const header = now();
      return { type: 'qcow2', data: dataOf(storage, header, limits) };
    },
  };
}

/** In the order in which qemu-img prints them. */
function dataOf(storage: Storage, header: Header, limits: Limits): { readonly [key: string]: Json } {
  const encrypt = header.encryption === undefined ? {} : { encrypt: encryptionData(storage, header) };
  const common = { compat: header.version === 2 ? '0.10' : '1.1', 'compression-type': header.compression };
  const width = { 'refcount-bits': header.refcountBits };
  if (header.version === 2) return { ...common, ...width, ...encrypt };
  const bitmaps = readBitmaps(storage, header, limits).map(({ name, granularity, inUse, auto }) => ({
    flags: [...(inUse ? ['in-use'] : []), ...(auto ? ['auto'] : [])],
    name,
    granularity,
  }));
  const dataFile = header.extensions.dataFile;
  return {
    ...common,
    'lazy-refcounts': header.lazyRefcounts,
    ...(bitmaps.length === 0 ? {} : { bitmaps }),
    ...width,
    ...(dataFile === undefined ? {} : { 'data-file': dataFile }),
    ...(header.external ? { 'data-file-raw': header.dataFileRaw } : {}),
    ...encrypt,
    corrupt: header.corrupt,
    'extended-l2': header.extended,
  };
}
