/** What checking an image's structure finds. */

export interface CheckReport {
  /** Contradictions that lose data, or would when the image is written. */
  readonly corruptions: number;
  /** Units marked as used that nothing refers to. */
  readonly leaks: number;
  /** Places that could not be checked at all. */
  readonly checkErrors: number;
  readonly corruptionsFixed: number;
  readonly leaksFixed: number;
  /** Where the last unit in use ends, in bytes. */
  readonly imageEnd: number;
  readonly units: {
    readonly total: number;
    readonly allocated: number;
    readonly fragmented: number;
    readonly compressed: number;
  };
}

/** `leaks` gives leaked space back; `all` also mends what can be mended without losing data. */
export type Repair = 'none' | 'leaks' | 'all';

export interface CheckOptions {
  readonly repair: Repair;
  /** Told of every finding, a line each. */
  readonly tell: (finding: string) => void;
}

/**
 * A check under way, step by step: does nothing before the first, and says after each how far it has come, from 0 to 1
 * (from 0 again where it mends, or checks again afterwards). A step is about one table. Whoever wants no more of it
 * calls `return`: what it opened is closed, and a repair leaves what a crash there would have left.
 */
export type Checking = Generator<number, CheckReport, void>;
