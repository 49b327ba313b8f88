import { ImgfsError } from '../lib/errors.js';

/**
 * The key of an encrypted image, in memory that all threads of a process share, so that it is nowhere else and can be
 * wiped everywhere at once.
 */
export interface ImageKey {
  readonly bytes: Uint8Array;
  /** Called when the image closes. Whoever found the key wipes it then; where it was only lent, nothing happens. */
  release(): void;
}

/** The key that a passphrase leads to, which is taken over and wiped; undefined where the passphrase is wrong. */
export type KeyFinder = (passphrase: Uint8Array) => Uint8Array | undefined;

/** Who knows passphrases. A passphrase is bytes, never a string: a string cannot be wiped. */
export interface Passphrases {
  /**
   * The passphrase of an image, by the path of its file. It stays the asker's who gave it: nobody else keeps it. Throws
   * `passphrase` where there is none.
   */
  of(path: string): Uint8Array;
}

/** The key of the image at `path`, in shared memory, by the passphrase that somebody knows for it. Throws `passphrase` where it is wrong. */
export function foundKey(path: string, passphrases: Passphrases, find: KeyFinder): SharedArrayBuffer {
  const key = find(passphrases.of(path));
  if (key === undefined) throw new ImgfsError('passphrase', `${path}: wrong passphrase`);
  const memory = new SharedArrayBuffer(key.length);
  new Uint8Array(memory).set(key);
  key.fill(0);
  return memory;
}

/** What is done with the contents of an encrypted image that was opened without its passphrase. */
export function noPassphrase(name: string): ImgfsError {
  return new ImgfsError('passphrase', `${name}: encrypted, and no passphrase was given`, {
    hint: 'add --password-file FILE',
  });
}
