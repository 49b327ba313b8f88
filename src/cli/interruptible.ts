import { setImmediate } from 'node:timers/promises';
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

/**
 * Runs `work`, which takes steps, with signals that ask to stop (Ctrl-C) held back: they end it between two steps, by
 * Interrupted, so that it can clear up what it began. Whoever has done that calls `endAs`.
 */
export async function interruptible<T>(
  work: (run: (steps: Iterable<number>) => Promise<void>) => Promise<T>,
): Promise<T> {
  const signals = new StopSignals();
  const run = async (steps: Iterable<number>): Promise<void> => {
    let heard = 0;
    for (const _ of steps) {
      if (performance.now() - heard < HEARD_EVERY) continue;
      await setImmediate();
      heard = performance.now();
      if (signals.seen !== undefined) throw new Interrupted(signals.seen);
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
