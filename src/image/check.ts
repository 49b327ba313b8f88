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
  /** Told, often, how far it has come: from 0 to 1, and from 0 again where it checks again after a repair. */
  readonly progress?: ((part: number) => void) | undefined;
}
