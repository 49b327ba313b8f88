/** Runs many long jobs in several threads at once. Orders and answers cross as structured clones. */
import os from 'node:os';
import { parentPort, Worker } from 'node:worker_threads';

export interface Crew<Order, Answer> {
  /** URL of a module that calls `serve`. */
  readonly module: URL;
  readonly orders: readonly Order[];
  /** Sees every answer as it comes. */
  each(answer: Answer): void;
  /** Says that no more need be given out. */
  enough?(): boolean;
}

/** Resolves when all orders were answered; rejects with what a thread threw. */
export async function runCrew<Order, Answer>(crew: Crew<Order, Answer>): Promise<void> {
  const waiting = [...crew.orders];
  const count = Math.min(os.availableParallelism(), waiting.length);
  await Promise.all(Array.from({ length: count }, () => runThread(crew, waiting)));
}

/** The other side: answers one order at a time. */
export function serve<Order, Answer>(work: (order: Order) => Answer): void {
  parentPort?.on('message', (order: Order) => parentPort?.postMessage(work(order)));
}

async function runThread<Order, Answer>(crew: Crew<Order, Answer>, waiting: Order[]): Promise<void> {
  // Their standard output would only repeat the seed.
  const worker = new Worker(crew.module, { stdout: true });
  try {
    await new Promise<void>((resolve, reject) => {
      const next = (): void => {
        const order = crew.enough?.() === true ? undefined : waiting.shift();
        if (order === undefined) resolve();
        else worker.postMessage(order);
      };
      worker.on('message', (answer: Answer) => {
        crew.each(answer);
        next();
      });
      worker.on('error', reject);
      next();
    });
  } finally {
    await worker.terminate();
  }
}
