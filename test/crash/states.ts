/** The states a power cut may leave of recorded storages: everything flushed, and any subset of what came after. */
import { type JournalEntry, replay, tear } from '../../src/storage/journal.js';
import type { MemoryStorage } from '../../src/storage/memory.js';
import type { Random } from '../support/seed.js';

export interface CrashState {
  /** `12.subset.5`: the journal's entry it belongs to, the kind, and which of its kind. */
  readonly id: string;
  /** The power goes after so many entries of the journal were issued. */
  readonly at: number;
  /** What was stored, over the flushed content. */
  readonly stored: readonly JournalEntry[];
  /** The files, one by one; the receiver may write to them. */
  files(): readonly MemoryStorage[];
}

export interface StateOptions {
  /** Whether flushes hold back anything. Without, the runner must find damage: the negative control. */
  readonly barriers: boolean;
  readonly random: Random;
  /** Epochs of at most so many operations are tried in every subset. */
  readonly exhaustive?: number;
  /** Random subsets of longer ones. */
  readonly subsets?: number;
}

type Volatile = { readonly entry: JournalEntry; readonly index: number };

/** Enumerates the states of one run over copies of what the files held before it. Needs each state used at once. */
export class CrashStates {
  private durable: MemoryStorage[];
  private volatile: Volatile[] = [];

  constructor(
    private readonly entries: readonly JournalEntry[],
    before: readonly MemoryStorage[],
    private readonly options: StateOptions,
  ) {
    this.durable = before.map((file) => file.copy());
  }

  *all(): Generator<CrashState> {
    yield this.state('0.nothing', 0, []);
    let changed = false;
    for (const [index, entry] of this.entries.entries()) {
      if (entry.kind !== 'flush') {
        this.volatile.push({ entry, index });
        changed = true;
        yield* this.prefixes(index);
      } else if (this.options.barriers) {
        if (changed) yield* this.subsets(index);
        changed = false;
        this.settle(entry.file);
        // What was acknowledged by this flush must be there, though nothing else was issued.
        yield this.state(
          `${index}.flushed`,
          index + 1,
          this.kept(() => true),
        );
      }
    }
    if (changed) yield* this.subsets(this.entries.length);
    yield this.state(
      'end',
      this.entries.length,
      this.kept(() => true),
    );
  }

  /** Everything so far, and the last write of it torn. */
  private *prefixes(index: number): Generator<CrashState> {
    const all = this.kept(() => true);
    yield this.state(`${index}.prefix`, index + 1, all);
    const last = all[all.length - 1];
    if (last === undefined) return;
    for (const [way, parts] of this.tears(last, ['first half', 'some']).entries()) {
      yield this.state(`${index}.torn.${way}`, index + 1, [...all.slice(0, -1), ...parts]);
    }
  }

  /** At the end of an epoch: any subset, and single writes torn while all others were stored. */
  private *subsets(index: number): Generator<CrashState> {
    const count = this.volatile.length;
    if (count <= (this.options.exhaustive ?? 8)) {
      for (let set = 0; set < 2 ** count - 1; set++) {
        yield this.state(
          `${index}.subset.${set}`,
          index,
          this.kept((n) => ((set >>> n) & 1) === 1),
        );
      }
    } else {
      for (let one = 0; one < count; one++)
        yield this.state(
          `${index}.without.${one}`,
          index,
          this.kept((n) => n !== one),
        );
      for (let one = 0; one < count; one++)
        yield this.state(
          `${index}.only.${one}`,
          index,
          this.kept((n) => n === one),
        );
      for (let k = 0; k < (this.options.subsets ?? 64); k++) {
        const likely = [0.1, 0.5, 0.9][k % 3] ?? 0.5;
        yield this.state(
          `${index}.random.${k}`,
          index,
          this.kept(() => this.options.random.next() < likely),
        );
      }
    }
    for (const [n, { entry }] of this.volatile.entries()) {
      for (const [way, parts] of this.tears(entry, ['second half', 'some']).entries()) {
        const stored = this.volatile.flatMap((one, other) => (other === n ? parts : [one.entry]));
        yield this.state(`${index}.rent.${n}.${way}`, index, stored);
      }
    }
  }

  private kept(which: (n: number) => boolean): JournalEntry[] {
    return this.volatile.filter((_one, n) => which(n)).map(({ entry }) => entry);
  }

  /** Ways of storing only parts of one operation, at sector boundaries. Empty where it is stored whole or not at all. */
  private tears(entry: JournalEntry, ways: readonly ('first half' | 'second half' | 'some')[]): JournalEntry[][] {
    const parts = partsOf(entry);
    if (parts.length < 2) return [];
    const half = Math.ceil(parts.length / 2);
    return ways.map((way) => {
      if (way === 'first half') return parts.slice(0, half);
      if (way === 'second half') return parts.slice(half);
      return parts.filter(() => this.options.random.below(2) === 0);
    });
  }

  private settle(file: number): void {
    replay(
      this.kept((n) => this.volatile[n]?.entry.file === file),
      this.durable,
    );
    this.volatile = this.volatile.filter(({ entry }) => entry.file !== file);
  }

  private state(id: string, at: number, stored: readonly JournalEntry[]): CrashState {
    const { durable } = this;
    const files = (): readonly MemoryStorage[] => {
      const copies = durable.map((file) => file.copy());
      replay(stored, copies);
      return copies;
    };
    return { id, at, stored, files };
  }
}

/** Discards are torn in two: a host gives back space in pieces of its own. */
function partsOf(entry: JournalEntry): readonly JournalEntry[] {
  if (entry.kind === 'write') return tear(entry);
  if (entry.kind !== 'discard' || entry.length < 1024) return [entry];
  const middle = entry.at + entry.length / 2;
  const first = middle - (middle % 512) - entry.at;
  return [
    { ...entry, length: first },
    { ...entry, at: entry.at + first, length: entry.length - first },
  ];
}
