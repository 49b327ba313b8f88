import {
  type CreateContext,
  type CreateOptions,
  type Creation,
  flagOption,
  type OptionValues,
  textOption,
} from '../../image/creation.js';
import { DEFAULT_LIMITS } from '../../image/limits.js';
import { roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { BOUNDS, CRYPT, ENTRY_BYTES, encodeHeader, HEADER_BYTES, MAGIC, SECTOR, VERSION } from './layout.js';

/** As QEMU chooses them: clusters of one sector above a backing file, so that nothing is ever copied up. */
const ALONE = { clusterBits: 12, l2Bits: 9 } as const;
const BACKED = { clusterBits: 9, l2Bits: 12 } as const;
const TWO_32 = 2 ** 32;

const ENCRYPTION = flagOption('encryption', 'encrypted by AES: the old way to say encrypt.format=aes', false);
const ENCRYPT_FORMAT = textOption('encrypt.format', 'encrypted by aes, which any passphrase opens');
const KEY_SECRET = textOption('encrypt.key-secret', 'ID of the --object secret that holds the passphrase');

export const creation: Creation = { options: [ENCRYPTION, ENCRYPT_FORMAT, KEY_SECRET], backing: true, create };

/**
 * Header, name, L1: byte for byte what qemu-img makes. The header comes last: without it there is no image. Nothing is
 * stored of a passphrase; that there is one is asked for all the same, as QEMU does.
 */
function create(storage: Storage, options: CreateOptions, context: CreateContext): void {
  const { backing } = options;
  const encrypted = isEncrypted(options.values);
  const size = sizeOf(storage, options.size);
  const name = Buffer.from(backing?.name ?? '');
  if (name.length > BOUNDS.backingNameBytes) {
    throw new ImgfsError('limit', `${storage.name}: the name of its backing file is longer than 1023 bytes`);
  }
  const { clusterBits, l2Bits } = backing === undefined ? ALONE : BACKED;
  const l1At = roundUp(HEADER_BYTES + name.length, ENTRY_BYTES);
  const l1Bytes = Math.ceil(size / 2 ** (clusterBits + l2Bits)) * ENTRY_BYTES;
  const header = encodeHeader({
    magic: MAGIC,
    version: VERSION,
    backingAt: name.length === 0 ? 0 : HEADER_BYTES,
    backingBytes: name.length,
    modified: (backing?.modified ?? 0) % TWO_32,
    size,
    clusterBits,
    l2Bits,
    padding: 0,
    cryptMethod: encrypted ? CRYPT.aes : CRYPT.none,
    l1At,
  });
  if (encrypted) context.passphrase();
  storage.resize(l1At + roundUp(l1Bytes, SECTOR));
  storage.flush();
  storage.write(Buffer.concat([header, name]), 0);
  storage.flush();
}

function isEncrypted(values: OptionValues): boolean {
  const format = values.get(ENCRYPT_FORMAT);
  if (format === undefined) return values.get(ENCRYPTION);
  if (format === 'aes') return true;
  throw new ImgfsError('usage', `option ${ENCRYPT_FORMAT.name} cannot be "${format}"`, { hint: 'it is aes' });
}

function sizeOf(storage: Storage, wanted: number): number {
  const size = roundUp(wanted, SECTOR);
  if (size === 0) throw new ImgfsError('usage', `${storage.name}: a qcow disk cannot be empty`);
  if (size <= DEFAULT_LIMITS.virtualSize) return size;
  throw new ImgfsError('limit', `${storage.name}: a disk of ${size} bytes is too large for qcow`);
}
