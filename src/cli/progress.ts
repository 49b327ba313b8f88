/** How far a long verb is: a bar on a terminal, lines for programs where they ask, a line for whoever sends a signal. */
import { constants } from 'node:os';
import type { Command } from 'commander';
import { ImgfsError } from '../lib/errors.js';
import { sizeText } from '../lib/size-text.js';
import { heard } from '../lib/steps.js';
import { overwriteStatus, print, standardOutputIsTerminal, statusLine } from './output.js';

/** What `declareProgress` adds to a command's options. */
export interface ProgressFlags {
  /** Not given, or with no value, or with one. */
  readonly progress?: true | string;
  readonly quiet?: true;
}

/** Declares `-p`, which is qemu-img's, and what it may say more. */
export function declareProgress(command: Command): void {
  command.option(
    '-p, --progress [form]',
    'show how far it is at once, and in a pipe too; --progress=json: an object a line on standard error',
  );
}

/** A long verb, for those who watch it. */
export interface Task {
  readonly verb: string;
  /** What people read: "converting". */
  readonly label: string;
  /** In bytes; undefined where it is not bytes that are done. */
  readonly total?: number | undefined;
}

/** Where progress goes; replaced in tests. */
export interface Outlets {
  /** Writes over the last line of a terminal; undefined where there is none. */
  readonly terminal: ((text: string) => void) | undefined;
  /** Standard output, for what qemu-img writes there; undefined where it is a terminal. */
  readonly pipe: ((text: string) => void) | undefined;
  /** A line on standard error. */
  readonly line: (text: string) => void;
  /** In milliseconds. */
  readonly now: () => number;
}

/** The keys of a line of `--progress=json`. Those in bytes are null where the verb does not count bytes. */
export interface ProgressDocument {
  readonly schema: 'imgfs.progress/1';
  readonly verb: string;
  readonly done: number | null;
  readonly total: number | null;
  /** From 0 to 1. */
  readonly part: number;
  /** In bytes a second, lately; null at first. */
  readonly rate: number | null;
  /** Null where nobody knows. */
  readonly secondsLeft: number | null;
}

/** In milliseconds: what takes less needs no bar; how often the bar and the objects come; what "lately" is. */
const TIMES = { patience: 1000, bar: 200, json: 500, lately: 10_000 } as const;

const BAR_WIDTH = 24;

/** What SIGUSR1 asks for, and where there is one, SIGINFO (Ctrl-T on a terminal). */
const ASKING = (['SIGUSR1', 'SIGINFO'] as const).filter((signal) => signal in constants.signals);

/** The one that signals ask about: the latest. */
let current: ProgressLine | undefined;

/**
 * Shows one task. Without `-p`, a bar on a terminal and nothing in a pipe. With it, on a terminal a bar at once; where
 * standard output is none, what qemu-img writes there. Nothing with `-q`, but for whoever sends a signal.
 */
export class ProgressLine {
  private readonly form: Form | undefined;
  private readonly pace: Pace;
  private part = 0;

  constructor(
    private readonly task: Task,
    flags: ProgressFlags = {},
    private readonly outlets: Outlets = hostOutlets(),
  ) {
    this.pace = new Pace(outlets.now());
    this.form = flags.quiet === true ? undefined : formAsked(flags, outlets);
    if (current === undefined) for (const signal of ASKING) process.on(signal, () => current?.tell());
    current = this;
  }

  /** From 0 to 1; may be called as often as one likes. */
  show(part: number): void {
    this.part = part;
    const { form, outlets } = this;
    if (form === undefined) return;
    const now = outlets.now();
    if (form.isDue(part, now)) form.write(this.state(now));
  }

  /** The same in bytes of the task's total; where it has none, as `show`. */
  showDone(done: number): void {
    const { total = 1 } = this.task;
    this.show(total === 0 ? 0 : Math.min(1, done / total));
  }

  /** Before anything else is written there. */
  clear(): void {
    this.form?.clear();
  }

  /** Nothing more comes; to be called however it ended. */
  end(): void {
    this.form?.clear();
    this.form?.end();
  }

  /** For whoever asked by a signal: what qemu-img answers, and more. */
  tell(): void {
    this.clear();
    const state = this.state(this.outlets.now());
    this.outlets.line(
      this.form instanceof JsonLines
        ? JSON.stringify(state.document)
        : `${qemuText(state.document.part)} ${state.label}${details(state.document)}`,
    );
  }

  private state(now: number): State {
    const { verb, label, total } = this.task;
    const { part } = this;
    const speed = this.pace.at(part, now);
    const known = speed !== undefined && speed > 0;
    return {
      label,
      document: {
        schema: 'imgfs.progress/1',
        verb,
        done: total === undefined ? null : Math.round(part * total),
        total: total ?? null,
        part: Number(part.toFixed(4)),
        rate: known && total !== undefined ? Math.round(speed * total) : null,
        secondsLeft: part === 1 ? 0 : known ? Math.ceil((1 - part) / speed) : null,
      },
    };
  }
}

/**
 * Passes on steps, and what they end with, and shows them; each says how many bytes of the task are done (which part of
 * one without bytes), or always which part.
 */
export function* showing<T>(
  steps: Generator<number, T, void>,
  line: ProgressLine,
  each: 'bytes' | 'part' = 'bytes',
): Generator<number, T, void> {
  line.show(0);
  const result = yield* heard(steps, (done) => (each === 'part' ? line.show(done) : line.showDone(done)));
  line.show(1);
  return result;
}

interface State {
  readonly label: string;
  readonly document: ProgressDocument;
}

/** One way to show it. */
interface Form {
  isDue(part: number, now: number): boolean;
  write(state: State): void;
  clear(): void;
  end(): void;
}

/** Throws `usage`. */
function formAsked({ progress }: ProgressFlags, outlets: Outlets): Form | undefined {
  const asked = progress !== undefined;
  if (progress === 'json') return new JsonLines(outlets);
  // "--progress=" is what a bare one has become.
  if (asked && progress !== true && progress !== '') {
    throw new ImgfsError('usage', `--progress=${progress} is unknown`, { hint: 'json, or no value for a bar' });
  }
  if (asked && outlets.pipe !== undefined) return new QemuText(outlets.pipe);
  if (outlets.terminal === undefined) return undefined;
  return new Bar(outlets.terminal, outlets.now() + (asked ? 0 : TIMES.patience));
}

/** One line on a terminal that is gone at the end. */
class Bar implements Form {
  private shown = false;

  constructor(
    private readonly terminal: (text: string) => void,
    private next: number,
  ) {}

  isDue(_part: number, now: number): boolean {
    if (now < this.next) return false;
    this.next = now + TIMES.bar;
    return true;
  }

  write({ label, document }: State): void {
    const full = Math.floor(document.part * BAR_WIDTH);
    const bar = `[${'#'.repeat(full)}${' '.repeat(BAR_WIDTH - full)}]`;
    this.shown = true;
    this.terminal(`${label} ${bar} ${percent(document.part).padStart(3)} %${details(document)}`);
  }

  clear(): void {
    if (this.shown) this.terminal('');
    this.shown = false;
  }

  end(): void {}
}

/** What qemu-img -p writes: for every whole percent, 0 and 100, ended by a line break whether it got there or not. */
class QemuText implements Form {
  private last: number | undefined;

  constructor(private readonly pipe: (text: string) => void) {}

  isDue(part: number): boolean {
    const due = this.last === undefined || part > this.last + 0.01 || (part === 1 && this.last < 1);
    if (due) this.last = part;
    return due;
  }

  write({ document }: State): void {
    this.pipe(`${qemuText(document.part)}\r`);
  }

  clear(): void {}

  end(): void {
    this.pipe('\n');
  }
}

class JsonLines implements Form {
  private next = 0;
  private last = -1;

  constructor(private readonly outlets: Pick<Outlets, 'line'>) {}

  isDue(part: number, now: number): boolean {
    if (now < this.next && (part < 1 || this.last === 1)) return false;
    this.next = now + TIMES.json;
    this.last = part;
    return true;
  }

  write({ document }: State): void {
    this.outlets.line(JSON.stringify(document));
  }

  clear(): void {}
  end(): void {}
}

/** How fast it went lately. */
class Pace {
  private readonly samples: { readonly part: number; readonly at: number }[];

  constructor(start: number) {
    this.samples = [{ part: 0, at: start }];
  }

  /** In parts of the whole a second; undefined at first, and where it began anew. */
  at(part: number, now: number): number | undefined {
    const { samples } = this;
    if ((samples.at(-1)?.part ?? 0) > part) samples.length = 0;
    if (now - (samples.at(-1)?.at ?? 0) >= TIMES.bar || samples.length === 0) samples.push({ part, at: now });
    while (samples.length > 2 && now - samples[1]!.at > TIMES.lately) samples.shift();
    const first = samples[0]!;
    return now > first.at ? ((part - first.part) * 1000) / (now - first.at) : undefined;
  }
}

function hostOutlets(): Outlets {
  return {
    terminal: overwriteStatus(),
    pipe: standardOutputIsTerminal() ? undefined : print,
    line: statusLine,
    now: () => performance.now(),
  };
}

function qemuText(part: number): string {
  return `    (${(part * 100).toFixed(2)}/100%)`;
}

function percent(part: number): string {
  return String(Math.floor(part * 100));
}

/** Rate and time left, as far as they are known. */
function details({ done, total, rate, secondsLeft }: ProgressDocument): string {
  const words = [
    ...(done === null || total === null ? [] : [`${sizeText(done)} of ${sizeText(total)}`]),
    ...(rate === null ? [] : [`${sizeText(rate)}/s`]),
    ...(secondsLeft === null ? [] : [`${clock(secondsLeft)} left`]),
  ];
  return words.map((word) => `  ${word}`).join('');
}

function clock(seconds: number): string {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const digits = (value: number): string => String(value).padStart(2, '0');
  return hours > 0 ? `${hours}:${digits(minutes)}:${digits(rest)}` : `${minutes}:${digits(rest)}`;
}
