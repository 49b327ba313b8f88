/** Runs workloads in several threads at once. */
import os from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Answer, Order } from './worker.js';

/** Runs all orders; `each` sees every answer as it comes. Stops giving out more once `enough` says so. */
export async function runAll(
  orders: readonly Order[],
  each: (answer: Answer) => void,
  enough: () => boolean = () => false,
): Promise<void> {
  const waiting = [...orders];
  const count = Math.min(os.availableParallelism(), waiting.length);
  await Promise.all(Array.from({ length: count }, () => runOne(waiting, each, enough)));
}

async function runOne(waiting: Order[], each: (answer: Answer) => void, enough: () => boolean): Promise<void> {
  const worker = new Worker(new URL('./worker.js', import.meta.url), { stdout: true });
  try {
    await new Promise<void>((resolve, reject) => {
      const next = (): void => {
        const order = enough() ? undefined : waiting.shift();
        if (order === undefined) resolve();
        else worker.postMessage(order);
      };
      worker.on('message', (answer: Answer) => {
        each(answer);
        next();
      });
      worker.on('error', reject);
      next();
    });
  } finally {
    await worker.terminate();
  }
}
