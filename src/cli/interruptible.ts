import { setImmediate } from 'node:timers/promises';
import { heard } from '../lib/steps.js';
import { StopSignals } from '../mount/signals.js';

/** Thrown, by work done in steps, when the user has asked it to stop. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor(readonly signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
  }
}

/** In milliseconds: how long a signal waits to be noticed, but for what a single step takes. */
const HEARD_EVERY = 50;

/** Takes steps to their end, and returns what they end with. */
export type Run = <T>(steps: Generator<number, T, void>) => Promise<T>;

/**
 * Runs `work`, which takes steps, with signals that ask to stop (Ctrl-C) held back: they end it between two steps, by
 * Interrupted, so that it can clear up what it began. Whoever has done that calls `endAs`.
 */
export async function interruptible<T>(work: (run: Run) => Promise<T>): Promise<T> {
  const signals = new StopSignals();
  const run: Run = async (steps) => {
    const taken = heard(steps);
    let before = 0;
    for (let step = taken.next(); ; step = taken.next()) {
      if (step.done === true) return step.value;
      if (performance.now() - before < HEARD_EVERY) continue;
      await setImmediate();
      before = performance.now();
      // Ends the work as whoever stops asking does: it never sees this error.
      if (signals.seen !== undefined) taken.throw(new Interrupted(signals.seen));
    }
  };
  try {
    return await work(run);
  } finally {
    signals.close();
  }
}

/** Ends this process by the signal, as if it had never been held back: whoever started it sees that. */
export function endAs({ signal }: Interrupted): never {
  process.kill(process.pid, signal);
  // Where something blocks the signal.
  process.exit(1);
}
