/** The log of failing requests: a bad image read in a loop must not flood it. */
import { ImgfsError } from '../lib/errors.js';

const WINDOW_MS = 10_000;
const PER_WINDOW = 5;

/**
 * Passes on at most five different messages in ten seconds, each once. What was held back is told as a number by the
 * first message that follows. One per thread; not shared.
 */
export class Complaints {
  private readonly said = new Set<string>();
  private since = Number.NEGATIVE_INFINITY;
  private held = 0;

  /** `now` is a clock in milliseconds that never goes back. */
  constructor(
    private readonly log: (message: string) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Tells of a request that failed: `doing` names it, as `read of inode 3 at 4096`. */
  tell(doing: string, error: unknown): void {
    if (this.now() - this.since > WINDOW_MS) this.openWindow();
    const message = `${doing}: ${describe(error)}`;
    if (this.said.has(message) || this.said.size >= PER_WINDOW) {
      this.held += 1;
      return;
    }
    this.said.add(message);
    this.log(message);
  }

  private openWindow(): void {
    if (this.held > 0) this.log(`${this.held} more requests failed since then`);
    this.held = 0;
    this.said.clear();
    this.since = this.now();
  }
}

/** A bug keeps the place it was thrown from: the log is all its finder will have. */
function describe(error: unknown): string {
  if (error instanceof ImgfsError) return error.message;
  if (!(error instanceof Error)) return `internal error: ${String(error)}`;
  const place = error.stack?.split('\n').find((line) => line.startsWith('    at '));
  return `internal error: ${error.message}${place === undefined ? '' : ` (${place.trim()})`}`;
}
