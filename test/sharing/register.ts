/**
 * What may be read of sectors that several threads write: writes of one sector take turns and get growing numbers, so
 * a reader knows the last that was finished before it began and the last that was begun before it ended. Anything
 * outside of that is a stale table or a lost write.
 */

/** Words per sector: number finished, number begun, last number begun that wrote zeros, and a lock. */
const WORDS = 4;
const DONE = 0;
const BEGUN = 1;
const ZEROED = 2;
const LOCK = 3;

export class Register {
  private readonly words: Int32Array;

  constructor(
    readonly sectors: number,
    readonly buffer = new SharedArrayBuffer(sectors * WORDS * 4),
  ) {
    this.words = new Int32Array(buffer);
  }

  /** Runs `write` with the next number of the sector; writes of one sector exclude one another. */
  writing(sector: number, zeros: boolean, write: (number: number) => void): void {
    const at = sector * WORDS;
    while (Atomics.compareExchange(this.words, at + LOCK, 0, 1) !== 0) Atomics.wait(this.words, at + LOCK, 1, 1);
    try {
      const number = Atomics.load(this.words, at + BEGUN) + 1;
      if (zeros) Atomics.store(this.words, at + ZEROED, number);
      Atomics.store(this.words, at + BEGUN, number);
      write(number);
      Atomics.store(this.words, at + DONE, number);
    } finally {
      Atomics.store(this.words, at + LOCK, 0);
      Atomics.notify(this.words, at + LOCK);
    }
  }

  /** Runs `read`, and says what is wrong with the number it found (0 for zeros); undefined for nothing. */
  reading(sector: number, read: () => readonly number[]): string | undefined {
    const at = sector * WORDS;
    const least = Atomics.load(this.words, at + DONE);
    const found = read();
    const most = Atomics.load(this.words, at + BEGUN);
    const zeroed = Atomics.load(this.words, at + ZEROED);
    const wrong = found.find((number) =>
      number === 0 ? least > 0 && zeroed < least : number < least || number > most,
    );
    return wrong === undefined ? undefined : `sector ${sector} holds ${wrong}, expected ${least} to ${most}`;
  }
}
