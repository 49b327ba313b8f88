/** What a line of the tables says. */

/** One command line, given to both programs in directories that hold the same files. */
export interface Row {
  /** The words after the program's name, as a shell splits them. Files of the stock that it names are there. */
  readonly line: string;
  /** The exit status of both. */
  readonly code: number;
  /** What qemu-img's and imgfs's complaint must match, so that neither fails for another reason than the row is about. */
  readonly says?: readonly [qemuImg: RegExp, imgfs: RegExp];
  /** Every file that comes to be, changes or goes, alike on both sides. Everything else stays as it is to the byte. */
  readonly changes: readonly string[];
  readonly with: readonly string[];
  /** A file that another process has open for writing meanwhile. */
  readonly locked?: string | undefined;
  /** `free`: what is printed need not be the same. */
  readonly output: 'same' | 'free';
  /** `free`: which zeros are stored and which are holes need not be the same. */
  readonly layout: 'same' | 'free';
  /** A key of `info` that need not be the same. */
  readonly ignored?: string;
}

type Rest = Partial<Omit<Row, 'line' | 'says'>>;

const PLAIN = { code: 0, changes: [], with: [], output: 'same', layout: 'same' } as const;

/** Both succeed, print the same and change nothing. */
export function tells(line: string, rest: Rest = {}): Row {
  return { ...PLAIN, ...rest, line };
}

/** Both succeed and leave these files with the same content and properties. */
export function makes(line: string, changes: string | readonly string[], rest: Rest = {}): Row {
  return { ...PLAIN, ...rest, line, changes: typeof changes === 'string' ? [changes] : changes };
}

/** Both fail, for this reason, and change nothing. */
export function fails(line: string, says: readonly [RegExp, RegExp], rest: Rest = {}): Row {
  return { ...PLAIN, code: 1, ...rest, line, says };
}

/** A line whose two runs differ, and how each ends. */
export interface DifferentRow extends Pick<Row, 'line' | 'with' | 'locked'> {
  readonly qemuImg: Ending;
  readonly imgfs: Ending;
}

/** The exit status, and what is found in what was printed, on either stream. */
export type Ending = readonly [code: number, says: RegExp];

/** They end in these ways. */
export function differs(
  line: string,
  qemuImg: Ending,
  imgfs: Ending,
  rest: Partial<Pick<Row, 'with' | 'locked'>> = {},
): DifferentRow {
  return { with: [], ...rest, line, qemuImg, imgfs };
}

/** A line's words: separated by spaces, but for those within single quotes. */
export function words(line: string): readonly string[] {
  return [...line.matchAll(/(?:'[^']*'|[^\s'])+/g)].map(([word]) => word.replaceAll("'", ''));
}
