import { describeLuks } from '../../codec/luks/describe.js';
import { readLuksHeader } from '../../codec/luks/header.js';
import { luksView, type PlainView } from '../../image/encrypted.js';
import type { OpenContext } from '../../image/format.js';
import type { Json } from '../../image/image.js';
import type { Limits } from '../../image/limits.js';
import { ImgfsError } from '../../lib/errors.js';
import { SliceStorage } from '../../storage/slice.js';
import type { Storage } from '../../storage/storage.js';
import { type Header, readHeader } from './header.js';
import type { CryptoClaim } from './layout.js';

type Data = { readonly [key: string]: Json };

/** qemu-img's `encrypt` object: what can be told without a key. A LUKS header that cannot be read is left out. */
export function encryptionData(storage: Storage, { encryption, crypto }: Header): Data {
  if (encryption !== 'luks' || crypto === undefined) return { format: encryption ?? 'none' };
  try {
    return { format: 'luks', ...describeLuks(readLuksHeader(luksHead(storage, crypto))) };
  } catch (error) {
    if (error instanceof ImgfsError) return { format: 'luks' };
    throw error;
  }
}

/** What the clusters hold in plain. Throws what reading the header throws, and what the context throws. */
export function openLuks(storage: Storage, data: Storage, claim: CryptoClaim, context: OpenContext): PlainView {
  return luksView(data, luksHead(storage, claim), context);
}

/** The LUKS header and key slots of an image that has them. */
export function keySlots(storage: Storage, limits: Limits): Storage | undefined {
  const { crypto, encryption } = readHeader(storage, limits);
  return encryption === 'luks' && crypto !== undefined ? luksHead(storage, crypto) : undefined;
}

/** The range of the image that holds its LUKS header and key slots. */
export function luksHead(storage: Storage, { at, bytes }: CryptoClaim): Storage {
  return new SliceStorage(storage, at, bytes, storage.name);
}
