const NOBODY = new Int32Array(new SharedArrayBuffer(4));

/** In milliseconds: how long a step waits at most, so that a signal is heard meanwhile. */
const NAP = 50;

/**
 * The steps of some work, held back so that what it has `spent`, in bytes, stays below `rate` bytes a second in the
 * long run. Without a rate nothing is.
 */
export function* paced(steps: Iterable<number>, spent: () => number, rate: number | undefined): Generator<number> {
  const begun = performance.now();
  for (const done of steps) {
    for (;;) {
      yield done;
      const early = rate === undefined ? 0 : (spent() / rate) * 1000 - (performance.now() - begun);
      if (early <= 0) break;
      Atomics.wait(NOBODY, 0, 0, Math.min(NAP, early));
    }
  }
}
