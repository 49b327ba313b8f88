import { libc } from '../lib/libc.js';

/** How long what is left of the process may take to end by itself, in milliseconds. */
const GRACE = 1000;

/**
 * Bugs that nobody caught, from construction to `close`. While a mount is served nothing else may act on them: the
 * process cannot exit with threads that wait for requests, and a mount without its main thread hangs whoever touches
 * it. So the mount has to be ended first.
 */
export class Uncaught {
  /** Rejects with the first of them. */
  readonly happened: Promise<never>;
  private readonly others = process.listeners('uncaughtException');
  private fail!: (error: unknown) => void;

  constructor() {
    this.happened = new Promise((_, reject) => {
      this.fail = reject;
    });
    this.happened.catch(() => undefined);
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', this.onError);
  }

  close(): void {
    process.off('uncaughtException', this.onError);
    for (const listener of this.others) process.on('uncaughtException', listener);
  }

  private readonly onError = (error: unknown): void => this.fail(error);
}

/**
 * Lets the process end by itself, and soon makes it: after a breakdown, threads may still be waiting for requests of
 * somebody who has a file open. To be called when everything is closed.
 */
export function endSoon(): void {
  setTimeout(() => libc()?.exitNow(Number(process.exitCode ?? 0)), GRACE).unref();
}
