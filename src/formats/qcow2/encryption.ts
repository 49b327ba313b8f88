import { LUKS1_HEADER_BYTES, type LuksHeader, readLuksHeader } from '../../codec/luks-header.js';
import type { Json } from '../../image/image.js';
import type { Storage } from '../../storage/storage.js';
import type { Header } from './header.js';

type Data = { readonly [key: string]: Json };

/** qemu-img's `encrypt` object: what can be told without a key. A LUKS header that cannot be read is left out. */
export function encryptionData(storage: Storage, header: Header): Data {
  if (header.encryption !== 'luks' || header.crypto === undefined) return { format: header.encryption ?? 'none' };
  const bytes = Buffer.alloc(LUKS1_HEADER_BYTES);
  storage.read(bytes, header.crypto.at);
  const luks = readLuksHeader(bytes);
  return luks === undefined ? { format: 'luks' } : { format: 'luks', ...luksData(luks) };
}

function luksData(luks: LuksHeader): Data {
  const [mode = '', generator = ''] = splitOnce(luks.mode, '-');
  const [ivgen = '', ivgenHash] = splitOnce(generator, ':');
  // XTS uses two keys of the cipher's own size.
  const bits = (mode === 'xts' ? luks.keyBytes / 2 : luks.keyBytes) * 8;
  return {
    'cipher-alg': `${luks.cipher}-${bits}`,
    'cipher-mode': mode,
    'ivgen-alg': ivgen,
    ...(ivgenHash === undefined ? {} : { 'ivgen-hash-alg': ivgenHash }),
    'hash-alg': luks.hash,
    'payload-offset': luks.payloadOffset,
    'master-key-iters': luks.iterations,
    uuid: luks.uuid,
    slots: luks.slots.map(({ active, iterations, keyOffset, stripes }) =>
      active ? { active, iters: iterations, 'key-offset': keyOffset, stripes } : { active, 'key-offset': keyOffset },
    ),
  };
}

function splitOnce(text: string, mark: string): readonly (string | undefined)[] {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
