import type { ImageInfo, Json } from '../../image/image.js';
import type { Limits } from '../../image/limits.js';
import type { Storage } from '../../storage/storage.js';
import { readBitmaps } from './bitmaps.js';
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
      return { type: 'qcow2', data: { ...baseData(storage, header), ...version3Data(storage, header, limits) } };
    },
  };
}

type Data = { readonly [key: string]: Json };

function baseData(storage: Storage, header: Header): Data {
  return {
    compat: header.version === 2 ? '0.10' : '1.1',
    'compression-type': header.compression,
    'refcount-bits': header.refcountBits,
    ...(header.encryption === undefined ? {} : { encrypt: encryptionData(storage, header) }),
  };
}

function version3Data(storage: Storage, header: Header, limits: Limits): Data {
  if (header.version === 2) return {};
  const bitmaps = readBitmaps(storage, header, limits).map(({ name, granularity, inUse, auto }) => ({
    flags: [...(inUse ? ['in-use'] : []), ...(auto ? ['auto'] : [])],
    name,
    granularity,
  }));
  const dataFile = header.extensions.dataFile;
  return {
    'lazy-refcounts': header.lazyRefcounts,
    corrupt: header.corrupt,
    'extended-l2': header.extended,
    ...(bitmaps.length === 0 ? {} : { bitmaps }),
    ...(dataFile === undefined ? {} : { 'data-file': dataFile }),
    ...(header.external ? { 'data-file-raw': header.dataFileRaw } : {}),
  };
}
