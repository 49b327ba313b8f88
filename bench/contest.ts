/** What is compared: contestants doing the same work in turns, so that what else the machine does meets all of them. */

export interface Measure {
  readonly id: string;
  readonly title: string;
  readonly unit: 'MB/s' | 'IOPS' | 'ms' | 's' | 'ms/GB' | 'MiB' | 'KiB/s' | '/s';
  readonly better: 'more' | 'less';
  /** What the group's comparison should come to; undefined where nothing was promised. */
  readonly expected?: number | undefined;
}

/** Values by the id of their measure; one is missing where a contestant has no such thing. */
export type Readings = Readonly<Record<string, number | undefined>>;

export interface Contest {
  /** What one run yields. */
  readonly measures: readonly Measure[];
  /** Each does the work once. */
  readonly contestants: ReadonlyMap<string, () => Promise<Readings>>;
  /** A first round is not counted, for caches and just-in-time compilers: where contestants live on between rounds. */
  readonly warmUp: boolean;
  /** Called after the last round. */
  end?(): Promise<void>;
}

/** A table of its own in the results. */
export interface Group {
  readonly title: string;
  /** What was done, where: printed above the table. */
  readonly about: string;
  readonly contestants: readonly string[];
  /** Who is compared with the better of whom. */
  readonly ours: string;
  readonly rivals: readonly string[];
  readonly contests: readonly Contest[];
  /** Called after the last contest. */
  end?(): Promise<void>;
}

/** The values of one measure by contestant, in the order of the rounds; empty where there are none. */
export interface Outcome {
  readonly measure: Measure;
  readonly values: ReadonlyMap<string, readonly number[]>;
}

/** Who begins changes every round. */
export async function alternate(contest: Contest, rounds: number): Promise<readonly Outcome[]> {
  const names = [...contest.contestants.keys()];
  const outcomes = contest.measures.map((measure) => {
    return { measure, values: new Map<string, number[]>(names.map((name) => [name, []])) };
  });
  try {
    for (let round = contest.warmUp ? 0 : 1; round <= rounds; round++) {
      for (let turn = 0; turn < names.length; turn++) {
        const name = names[(round + turn) % names.length]!;
        const readings = await contest.contestants.get(name)!();
        for (const { measure, values } of outcomes) {
          const value = readings[measure.id];
          if (value !== undefined && round > 0) values.get(name)?.push(value);
        }
      }
    }
  } finally {
    await contest.end?.();
  }
  return outcomes;
}
