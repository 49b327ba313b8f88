/** Which worlds a power cut may leave, at each moment of a recorded run. */
import type { Operation } from './operations.js';
import { type PastDisk, same, type World } from './world.js';

/** One operation of a run, with the journal's length when it began and when it returned. */
export interface Step {
  readonly operation: Operation;
  readonly stamp: number;
  readonly from: number;
  readonly to: number;
}

/** After these nothing that came before may be lost. Changes of snapshots and of the size are durable on return. */
const DURABLE: ReadonlySet<Operation['do']> = new Set(['flush', 'reopen', 'snapshot', 'apply', 'resize']);

/** These are on the disk when they return, but promise nothing about data written before them. */
const ATOMIC: ReadonlySet<Operation['do']> = new Set(['delete', 'rename']);

/** Whether nothing that came before it may be lost once it has returned. */
export function isDurable({ do: kind }: Operation): boolean {
  return DURABLE.has(kind);
}

/** The worlds that are possible once an operation has returned. */
export function worldsAfter(worlds: readonly World[], { operation, stamp }: Step): readonly World[] {
  const changed = worlds.map((world) => world.after(operation, stamp));
  if (!DURABLE.has(operation.do)) return changed;
  const newest = changed[changed.length - 1];
  return newest === undefined ? [] : [newest.settled()];
}

/**
 * The worlds that are possible while an operation runs: as before it, or as after it, never in between, but for disks
 * that grow gradually.
 */
export function worldsDuring(worlds: readonly World[], step: Step, gradual = false): readonly World[] {
  const { operation, stamp } = step;
  if (gradual && operation.do === 'resize') {
    return [...worlds.map((world) => world.growing(operation.size)), ...worldsAfter(worlds, step)];
  }
  const changed = worlds.map((world) => world.after(operation, stamp));
  if (ATOMIC.has(operation.do)) return [...worlds, ...changed];
  if (!DURABLE.has(operation.do)) return changed;
  return operation.do === 'flush' || operation.do === 'reopen' ? worlds : [...worlds, ...worldsAfter(worlds, step)];
}

/** The worlds of a whole run, asked for at moments that never go back. */
export class Timeline {
  private readonly states: (readonly World[])[] = [];

  constructor(
    start: World,
    private readonly steps: readonly Step[],
    /** Of a disk that grows gradually. */
    private readonly gradual = false,
  ) {
    let worlds: readonly World[] = [start];
    this.states.push(worlds);
    for (const step of steps) {
      worlds = worldsAfter(worlds, step);
      this.states.push(worlds);
    }
  }

  /** What may be found when the power goes after `entries` entries of the journal were issued. */
  at(entries: number): readonly World[] {
    const done = this.completed(entries);
    const worlds = this.states[done] ?? [];
    const running = this.steps[done];
    return running !== undefined && this.isRunning(done, entries)
      ? worldsDuring(worlds, running, this.gradual)
      : worlds;
  }

  /** A number that is the same for moments with the same worlds. */
  phase(entries: number): number {
    const done = this.completed(entries);
    return done * 2 + (this.isRunning(done, entries) ? 1 : 0);
  }

  /** How much was written, zeroed or restructured since the last flush before that moment, in units of `blockSize`. */
  touched(entries: number, blockSize: number): { readonly bytes: number; readonly diskSize: number } {
    const done = this.completed(entries);
    const flushed = this.steps.slice(0, done).findLastIndex(({ operation }) => operation.do === 'flush');
    const diskSize = Math.max(...this.states.flat().map(({ size }) => size));
    const bytes = this.steps
      .slice(flushed + 1, done + 1)
      .map(({ operation }) =>
        'length' in operation
          ? operation.length + 2 * blockSize
          : 'name' in operation || operation.do === 'resize'
            ? diskSize
            : 0,
      )
      .reduce((sum, length) => sum + length, 0);
    return { bytes, diskSize };
  }

  /** Where the run ended. */
  end(): World {
    const [world] = this.states[this.states.length - 1] ?? [];
    if (world === undefined) throw new Error('a run without a world');
    return world.settled();
  }

  private completed(entries: number): number {
    const running = this.steps.findIndex(({ to }) => to > entries);
    return running < 0 ? this.steps.length : running;
  }

  private isRunning(step: number, entries: number): boolean {
    return (this.steps[step]?.from ?? entries) < entries;
  }

  /** Whether a sector ever held `content`: what is found there is then lost or early, not strange. */
  everHeld(sector: number, sectorBytes: number, content: Uint8Array): boolean {
    return this.states.some((worlds) =>
      worlds.some((world) => {
        const at = sector * sectorBytes;
        return same(world.exact().subarray(at, at + sectorBytes), content);
      }),
    );
  }
}

/** What was read from an image: its disk and its snapshots by name. */
export interface Found {
  readonly disk: Uint8Array;
  readonly snapshots: ReadonlyMap<string, PastDisk>;
}

export type Verdict =
  | { readonly kind: 'good' }
  /** The snapshots or the size fit no world. */
  | { readonly kind: 'impossible'; readonly what: string }
  | { readonly kind: 'strangers'; readonly sectors: readonly number[] };

/** Holds what was found to the worlds: one of them must allow all of it. For `bytewise` see World. */
export function judge(found: Found, worlds: readonly World[], bytewise = false): Verdict {
  let best: readonly number[] | undefined;
  let why = '';
  for (const world of worlds) {
    const wrong = wrongSnapshots(found, world);
    if (wrong !== undefined) {
      why = wrong;
      continue;
    }
    const strangers = world.strangers(found.disk, bytewise);
    if (strangers === undefined) why = `the disk has ${found.disk.length} bytes instead of ${world.size}`;
    else if (strangers.length === 0) return { kind: 'good' };
    else if (best === undefined || strangers.length < best.length) best = strangers;
  }
  return best === undefined ? { kind: 'impossible', what: why } : { kind: 'strangers', sectors: best };
}

function wrongSnapshots(found: Found, world: World): string | undefined {
  const names = (all: ReadonlyMap<string, PastDisk>): string => [...all.keys()].sort().join(' ');
  if (names(found.snapshots) !== names(world.snapshots)) {
    return `snapshots "${names(found.snapshots)}" instead of "${names(world.snapshots)}"`;
  }
  for (const [name, { disk }] of world.snapshots) {
    if (!same(found.snapshots.get(name)?.disk ?? new Uint8Array(), disk)) return `snapshot ${name} has changed`;
  }
  return undefined;
}
