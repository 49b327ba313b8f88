/**
 * What threads that have the same writable image open share: a readers-writer lock, version stamps of tables, and a
 * few numbers. Nothing else is shared: every thread has its own tables and caches, over the same descriptors.
 *
 * Rules: reads and in-place overwrites hold the lock shared; whatever changes a table holds it exclusively, writes the
 * table through to the storage and bumps its stamp before it lets go. A thread believes a cached table only while the
 * stamp is the one it was loaded under. A thread that dies holding the lock must end the process.
 */

/** Words of the buffer: lock state, waiting writers, whether the image is damaged, then stamps. */
const STATE = 0;
const WAITING = 1;
const DAMAGED = 2;
const FIRST_STAMP = 4;

const STAMPS = 4092;
/** How many numbers a driver has for itself. */
export const CELLS = 8192;
const STAMP_BYTES = (FIRST_STAMP + STAMPS) * 4;

/** Lock state: number of readers, or this. */
const WRITER = -1;

/** Nobody sleeps longer than this without looking again, in milliseconds: a lost wake-up costs time, not the mount. */
const NAP = 5;

export class Sharing {
  private readonly words: Int32Array;
  /** Numbers of the driver's own, exact up to 2^53; touched only under the exclusive lock. They begin as zeros. */
  readonly cells: Float64Array;

  constructor(readonly buffer = new SharedArrayBuffer(STAMP_BYTES + CELLS * 8)) {
    this.words = new Int32Array(buffer, 0, FIRST_STAMP + STAMPS);
    this.cells = new Float64Array(buffer, STAMP_BYTES, CELLS);
  }

  /** Waits until no writer holds the lock or wants it, then holds it with other readers. Not reentrant. */
  lockShared(): void {
    for (;;) {
      const state = Atomics.load(this.words, STATE);
      if (state === WRITER || Atomics.load(this.words, WAITING) > 0) Atomics.wait(this.words, STATE, state, NAP);
      else if (Atomics.compareExchange(this.words, STATE, state, state + 1) === state) return;
    }
  }

  unlockShared(): void {
    if (Atomics.sub(this.words, STATE, 1) === 1) Atomics.notify(this.words, STATE);
  }

  /** Waits until nobody holds the lock, then holds it alone. Writers go before readers that come later. */
  lockExclusive(): void {
    Atomics.add(this.words, WAITING, 1);
    for (;;) {
      const state = Atomics.compareExchange(this.words, STATE, 0, WRITER);
      if (state === 0) break;
      Atomics.wait(this.words, STATE, state, NAP);
    }
    Atomics.sub(this.words, WAITING, 1);
  }

  unlockExclusive(): void {
    Atomics.store(this.words, STATE, 0);
    Atomics.notify(this.words, STATE);
  }

  /** Ends all changes in every thread, for good. May be called under either lock. */
  markDamaged(): void {
    Atomics.store(this.words, DAMAGED, 1);
  }

  get damaged(): boolean {
    return Atomics.load(this.words, DAMAGED) !== 0;
  }

  /** The version of whatever a driver keeps under `key`; different keys may share one stamp. */
  stamp(key: number): number {
    return Atomics.load(this.words, FIRST_STAMP + (key % STAMPS));
  }

  /** Called under the exclusive lock, after the change is in the storage. */
  bump(key: number): void {
    Atomics.add(this.words, FIRST_STAMP + (key % STAMPS), 1);
  }

  /** As `bump`, for every key. */
  bumpAll(): void {
    for (let key = 0; key < STAMPS; key++) this.bump(key);
  }
}

/** The versions of what threads keep copies of. */
export interface Stamps {
  stamp(key: number): number;
  bump(key: number): void;
  /** Whatever is kept is to be read again: a repair has changed tables by their places in the file. */
  bumpAll(): void;
}

/** For an image no other thread has open: nothing changes behind its back but by a repair. */
export class OwnStamps implements Stamps {
  private version = 0;

  stamp(): number {
    return this.version;
  }

  bump(): void {}

  bumpAll(): void {
    this.version++;
  }
}

/** For drivers that repair nothing. */
export const ALONE: Stamps = new OwnStamps();
