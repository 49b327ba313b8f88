import { createCipheriv, createDecipheriv } from 'node:crypto';
import { asBuffer } from '../../lib/bits.js';

const NO_IV = null;

export const AES_KEY_BYTES: readonly number[] = [16, 24, 32];

/**
 * AES of single blocks over whole buffers, each block by itself: what the modes are made of. The key is copied into
 * OpenSSL's memory and cleared there by `close`, after which nothing else may be called.
 */
export class AesBlocks {
  private readonly cipher;
  private readonly decipher;

  /** `key` has 16, 24 or 32 bytes and stays its owner's. */
  constructor(key: Uint8Array) {
    const name = `aes-${key.length * 8}-ecb`;
    this.cipher = createCipheriv(name, key, NO_IV).setAutoPadding(false);
    this.decipher = createDecipheriv(name, key, NO_IV).setAutoPadding(false);
  }

  /** Whole blocks, into memory of their own. */
  encrypt(bytes: Uint8Array): Buffer {
    return this.cipher.update(asBuffer(bytes));
  }

  decrypt(bytes: Uint8Array): Buffer {
    return this.decipher.update(asBuffer(bytes));
  }

  close(): void {
    this.cipher.final();
    this.decipher.final();
  }
}

/** One unending CBC stream. Starting it anew for each sector would cost several times the encryption. */
export class AesChain {
  private readonly cipher;

  constructor(key: Uint8Array) {
    this.cipher = createCipheriv(`aes-${key.length * 8}-cbc`, key, new Uint8Array(16)).setAutoPadding(false);
  }

  encrypt(bytes: Uint8Array): Buffer {
    return this.cipher.update(asBuffer(bytes));
  }

  close(): void {
    this.cipher.final();
  }
}
