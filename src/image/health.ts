import { ImgfsError } from '../lib/errors.js';
import type { Storage } from '../storage/storage.js';
import type { Sharing } from './sharing.js';

/** Bytes that must lie in a storage again before anything else is changed. */
export interface Debt {
  readonly storage: Storage;
  readonly at: number;
  readonly bytes: Uint8Array;
}

/**
 * Whether an image may still be changed. After a failed flush the host may have dropped what was written before, and
 * after a write that would have landed on a table nothing the tables say can be trusted: in both cases every later
 * change fails, in every thread, while reads go on.
 */
export class Health {
  private failure: ImgfsError | undefined;
  private debts: Debt[] = [];

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

  /**
   * A table was perhaps half written, and what belongs there could not be put back: the host answers nothing at the
   * moment. It is put back before the next change, whenever the host recovers. Other threads may have seen the table
   * meanwhile; with them the image is damaged for good.
   */
  owe(debt: Debt, cause: unknown): void {
    if (this.sharing === undefined) this.debts.push(debt);
    else this.damage(new ImgfsError('io', `${debt.storage.name}: a table was left half written`, { cause }));
  }

  get sound(): boolean {
    if (this.failure !== undefined || this.sharing?.damaged === true) return false;
    try {
      this.payDebts();
      return true;
    } catch (error) {
      if (error instanceof ImgfsError) return false;
      throw error;
    }
  }

  /** Throws `io` (or `corrupt`) once the image is damaged, and what the host says while a table cannot be put right. */
  assertSound(): void {
    this.payDebts();
    if (this.failure === undefined && this.sharing?.damaged !== true) return;
    const { reason, message } = this.failure ?? { reason: 'io', message: 'an earlier flush failed' };
    throw new ImgfsError(reason === 'corrupt' ? 'corrupt' : 'io', `the image is not written any more: ${message}`, {
      hint: 'end its use and check it',
      cause: this.failure,
    });
  }

  private payDebts(): void {
    if (this.failure !== undefined) return;
    for (let debt = this.debts[0]; debt !== undefined; debt = this.debts[0]) {
      debt.storage.write(debt.bytes, debt.at);
      this.debts.shift();
    }
  }
}
