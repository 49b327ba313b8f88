import { aesSectors, type CipherSpec, type SectorCipher } from '../codec/crypt/sector-cipher.js';
import { cipherOf } from '../codec/luks/ciphers.js';
import { readLuksHeader } from '../codec/luks/header.js';
import { unlock } from '../codec/luks/unlock.js';
import { type CipherPlace, CipherStorage, Scratch, SECTOR } from '../storage/cipher.js';
import type { Storage, StorageExtent } from '../storage/storage.js';
import type { OpenContext } from './format.js';
import { type ImageKey, noPassphrase } from './keys.js';

/** The method of qcow and of qcow2's first: AES of 128 bits, no derivation. */
export const QCOW_AES: CipherSpec = { mode: 'cbc', generator: 'plain64' };
const QCOW_KEY_BYTES = 16;

/**
 * The plain bytes of an encrypted image: its key, its cipher, and the storages that encrypt with it. Without a key
 * there is all of this but the bytes.
 */
export class PlainView {
  private readonly cipher: SectorCipher | undefined;
  private readonly scratch = new Scratch();
  private last: { readonly origin: number; readonly start: number; readonly storage: Storage } | undefined;

  /** `parent` stays its owner's; the key is released by `close`, and when this throws. */
  constructor(
    private readonly parent: Storage,
    private readonly key: ImageKey | undefined,
    spec: CipherSpec,
  ) {
    // OpenSSL copies it, but not out of memory that threads share.
    const bytes = key && Buffer.from(key.bytes);
    this.cipher = bytes && aesSectors(spec, bytes);
    bytes?.fill(0);
  }

  /** The same object where the place is the one asked for last: ranges of one storage are read at once. */
  at({ start = 0, origin = 0 }: CipherPlace = {}): Storage {
    const { last, cipher, parent } = this;
    if (last !== undefined && last.origin === origin && last.start === start) return last.storage;
    const storage =
      cipher === undefined
        ? new LockedStorage(parent, start)
        : new CipherStorage(parent, cipher, { start, origin }, this.scratch);
    this.last = { start, origin, storage };
    return storage;
  }

  close(): void {
    this.cipher?.close();
    this.scratch.wipe();
    this.key?.release();
  }
}

/**
 * What a LUKS header tells how to read: `head` begins with the header, `parent` is what is encrypted. The header is
 * only read where the contents are asked for. Throws what that throws, and what finding the key does.
 */
export function luksView(parent: Storage, head: Storage, context: OpenContext): PlainView {
  const key = context.key?.((passphrase) => unlock(head, readLuksHeader(head), passphrase)?.key);
  return new PlainView(parent, key, key === undefined ? QCOW_AES : cipherOf(readLuksHeader(head), head.name));
}

/**
 * An image in qcow's own method: the passphrase's first 16 bytes are the key, and any passphrase opens it. `origin` of
 * a place must be such that sectors are numbered as the guest's are.
 */
export function qcowAesView(parent: Storage, context: OpenContext): PlainView {
  return new PlainView(parent, context.key?.(qcowAesKey), QCOW_AES);
}

/** Filled up with zeros. The caller wipes it. */
export function qcowAesKey(passphrase: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(QCOW_KEY_BYTES);
  bytes.set(passphrase.subarray(0, QCOW_KEY_BYTES));
  return bytes;
}

/** An encrypted storage without its key. */
class LockedStorage implements Storage {
  readonly name: string;
  readonly writable: boolean;
  readonly sector = SECTOR;

  constructor(
    private readonly parent: Storage,
    private readonly start: number,
  ) {
    this.name = parent.name;
    this.writable = parent.writable;
  }

  size(): number {
    return Math.max(0, this.parent.size() - this.start);
  }

  read(): number {
    throw noPassphrase(this.name);
  }

  write(): void {
    throw noPassphrase(this.name);
  }

  flush(): void {
    this.parent.flush();
  }

  resize(size: number): void {
    if (size > this.size()) throw noPassphrase(this.name);
    this.parent.resize(this.start + size);
  }

  discard(): void {
    throw noPassphrase(this.name);
  }

  allocate(): void {
    throw noPassphrase(this.name);
  }

  extent(at: number): StorageExtent {
    return { data: true, length: Math.max(1, this.size() - at) };
  }

  allocated(): number {
    return this.parent.allocated();
  }

  close(): void {}
}
