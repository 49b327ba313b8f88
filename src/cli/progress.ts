import { overwriteStatus } from './output.js';

/** In milliseconds: what takes less needs no progress; and how often it is told. */
const TIMES = { patience: 1000, every: 200 };

/** For whoever asked to see it. */
export const AT_ONCE: typeof TIMES = { ...TIMES, patience: 0 };

/** One line on a terminal that says how far something is, and is gone at the end. Nothing where there is none. */
export class ProgressLine {
  private next: number;
  private shown = false;

  constructor(
    private readonly label: string,
    private readonly write: ((text: string) => void) | undefined = overwriteStatus(),
    private readonly times = TIMES,
  ) {
    this.next = performance.now() + times.patience;
  }

  /** From 0 to 1; may be called as often as one likes. */
  show(part: number): void {
    if (this.write === undefined || performance.now() < this.next) return;
    this.next = performance.now() + this.times.every;
    this.shown = true;
    this.write(`${this.label}: ${Math.floor(part * 100)} %`);
  }

  /** Before anything else is written there, and at the end. */
  clear(): void {
    if (this.shown) this.write?.('');
    this.shown = false;
  }
}
