/** What the process of a suite tells the runner, as JSON. */
export interface Report {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly failures: readonly Failure[];
}

/** A test or a hook that failed: its full title, and the first lines of why. */
export interface Failure {
  readonly title: string;
  readonly why: string;
}
