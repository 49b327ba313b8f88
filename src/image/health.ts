import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { Sharing } from './sharing.js';

/**
 * Whether an image may still be changed. After a failed flush the host may have dropped what was written before, and
 * after a write that would have landed on a table nothing the tables say can be trusted: in both cases every later
 * change fails, in every thread, while reads go on.
 */
export class Health {
  private failure: ImgfsError | undefined;

  constructor(private readonly sharing: Sharing | undefined) {}

  /** The only way a driver flushes: a failure is remembered for all storages of the image and all its threads. */
  barrier(storage: Storage): void {
    this.assertSound();
    try {
      storage.flush();
    } catch (error) {
      throw this.damage(error instanceof ImgfsError ? error : new ImgfsError('io', String(error), { cause: error }));
    }
  }

  /** Ends all changes. Returns the error to throw. */
  damage(error: ImgfsError): ImgfsError {
    this.failure ??= error;
    this.sharing?.markDamaged();
    return error;
  }

  get sound(): boolean {
    return this.failure === undefined && this.sharing?.damaged !== true;
  }

  /** Throws `io` (or `corrupt`) once the image is damaged. */
  assertSound(): void {
    if (this.sound) return;
    const { reason, message } = this.failure ?? { reason: 'io', message: 'an earlier flush failed' };
    throw new ImgfsError(reason === 'corrupt' ? 'corrupt' : 'io', `the image is not written any more: ${message}`, {
      hint: 'end its use and check it',
      cause: this.failure,
    });
  }
}
