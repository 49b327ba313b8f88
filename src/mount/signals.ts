const STOP = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
type StopSignal = (typeof STOP)[number];

/** The signals that ask this process to stop, from construction to `close`; they do not end it meanwhile. */
export class StopSignals {
  private action: (() => unknown) | undefined;
  private first: StopSignal | undefined;

  constructor() {
    for (const signal of STOP) process.on(signal, this.onSignal);
  }

  /** The first signal that came so far. */
  get seen(): StopSignal | undefined {
    return this.first;
  }

  /** From now on every signal calls `action`. */
  listen(action: () => unknown): void {
    this.action = action;
  }

  close(): void {
    for (const signal of STOP) process.off(signal, this.onSignal);
  }

  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.first ??= signal as StopSignal;
    this.action?.();
  };
}
