/**
 * The blocks on their way from the source to the target, in memory that all threads of a conversion share. The thread
 * that writes puts them in, in the order of the disk, and takes them out in that order; in between any thread claims
 * the next one and prepares it. A block's place is free again when it and all before it are taken out.
 */
import { largeAt, ROOM_FOR_LARGE } from '../lib/aligned.js';
import { type ErrorRecord, ImgfsError } from '../lib/errors.js';
import type { Lost } from './salvage.js';
import type { Run } from './zeros.js';

/** The most a block holds. */
export const BLOCK = 2 * 1024 * 1024;

/** A part of a block: where it lies in its bytes, and what it is. */
export interface BlockRun extends Run {
  /** Length of its packed form; 0 where it is not packed. */
  readonly packed: number;
}

/** Runs are cut at sectors at the smallest. */
const MAX_RUNS = BLOCK / 512;
/** Packed forms may be a little larger than what they were made from. */
const PACKED = BLOCK + BLOCK / 2;
/** In a list of runs: how many words each takes. */
const RUN_WORDS = 4;

/** How long the note is of what was lost, or of an error; how many runs there are; the runs. */
const WORDS = 2 + RUN_WORDS * MAX_RUNS;
/** Room to say what could not be read: that every second sector could not, each for a reason of its own. */
const NOTES = 1024 * 1024;
const LONGEST_REASON = 200;

/** Words that all threads look at. TAIL: blocks put in so far, or -1 at the end. NEWS: changes when one is ready. */
const TAIL = 0;
const CLAIMED = 1;
const NEWS = 2;
const FIRST_STATE = 4;

const ENDED = -1;

const STATE = { open: 0, ready: 1, failed: 2 } as const;

/** Nobody sleeps longer than this without looking again, in milliseconds. */
const NAP = 50;

/** How its parts lie in memory; the same in every thread. */
export interface RingMemory {
  readonly words: SharedArrayBuffer;
  readonly slots: readonly SlotMemory[];
}

export interface SlotMemory {
  readonly buffer: SharedArrayBuffer;
  /** Where in the buffer the slot begins. */
  readonly at: number;
}

/** Where a block and what is found out about it lies. */
export class Slot {
  /** `BLOCK` bytes, of which the block's own are the first. */
  readonly bytes: Buffer;
  /** For the packed forms of its runs, one after the other. */
  readonly packed: Buffer;
  private readonly range: Float64Array;
  private readonly words: Int32Array;
  private readonly notes: Buffer;

  constructor({ buffer, at }: SlotMemory = Slot.memory()) {
    this.bytes = Buffer.from(buffer, at, BLOCK);
    this.packed = Buffer.from(buffer, at + BLOCK, PACKED);
    this.range = new Float64Array(buffer, at + BLOCK + PACKED, 2);
    this.words = new Int32Array(buffer, at + BLOCK + PACKED + 16, WORDS);
    this.notes = Buffer.from(buffer, at + BLOCK + PACKED + 16 + 4 * WORDS, NOTES);
  }

  static memory(): SlotMemory {
    const buffer = new SharedArrayBuffer(BLOCK + PACKED + 16 + 4 * WORDS + NOTES + ROOM_FOR_LARGE);
    return { buffer, at: largeAt(buffer, BLOCK) };
  }

  /** Guest offsets. */
  get from(): number {
    return this.range[0]!;
  }

  get to(): number {
    return this.range[1]!;
  }

  set(from: number, to: number): void {
    this.range[0] = from;
    this.range[1] = to;
  }

  setRuns(runs: Iterable<BlockRun>): void {
    const { words } = this;
    let count = 0;
    for (const { zero, from, to, packed } of runs) {
      words.set([zero ? 1 : 0, from, to, packed], 2 + RUN_WORDS * count);
      count++;
    }
    words[1] = count;
  }

  *runs(): Generator<BlockRun> {
    const { words } = this;
    const end = 2 + RUN_WORDS * words[1]!;
    for (let at = 2; at < end; at += RUN_WORDS) {
      yield { zero: words[at] === 1, from: words[at + 1]!, to: words[at + 2]!, packed: words[at + 3]! };
    }
  }

  setLost(lost: readonly Lost[]): void {
    const clipped = lost.map((one) => ({ ...one, why: one.why.slice(0, LONGEST_REASON) }));
    this.words[0] = lost.length === 0 ? 0 : this.notes.write(JSON.stringify(clipped));
  }

  lost(): readonly Lost[] {
    const length = this.words[0]!;
    return length === 0 ? [] : (JSON.parse(this.notes.toString('utf8', 0, length)) as readonly Lost[]);
  }

  setError(error: unknown): void {
    const record: ErrorRecord | string =
      error instanceof ImgfsError ? error.toJSON() : error instanceof Error ? String(error.stack) : String(error);
    this.words[0] = this.notes.write(JSON.stringify(record));
  }

  error(): Error {
    const record = JSON.parse(this.notes.toString('utf8', 0, this.words[0])) as ErrorRecord | string;
    return typeof record === 'string' ? new Error(record) : ImgfsError.fromJSON(record);
  }
}

export class Ring {
  private readonly words: Int32Array;
  private readonly slots: readonly Slot[];

  constructor(readonly memory: RingMemory) {
    this.words = new Int32Array(memory.words);
    this.slots = memory.slots.map((slot) => new Slot(slot));
  }

  /** With room for so many blocks. */
  static of(count: number): Ring {
    const words = new SharedArrayBuffer(4 * (FIRST_STATE + count));
    return new Ring({ words, slots: Array.from({ length: count }, () => Slot.memory()) });
  }

  get size(): number {
    return this.slots.length;
  }

  /** The writer's: puts a block in, whose place is free. Returns its number; numbers go up by one. */
  put(from: number, to: number): number {
    const number = Atomics.load(this.words, TAIL);
    this.slot(number).set(from, to);
    Atomics.store(this.words, this.state(number), STATE.open);
    Atomics.store(this.words, TAIL, number + 1);
    Atomics.notify(this.words, TAIL, 1);
    return number;
  }

  /** The writer's: nothing more will be put in, and what nobody has begun need not be done. */
  end(): void {
    Atomics.store(this.words, TAIL, ENDED);
    Atomics.notify(this.words, TAIL);
  }

  /** Whether its work is done, well or not. */
  isReady(number: number): boolean {
    return Atomics.load(this.words, this.state(number)) !== STATE.open;
  }

  /** Whether it is done well. */
  isPrepared(number: number): boolean {
    return Atomics.load(this.words, this.state(number)) === STATE.ready;
  }

  /** A block that is done. Throws what its work threw. */
  take(number: number): Slot {
    const slot = this.slot(number);
    if (!this.isPrepared(number)) throw slot.error();
    return slot;
  }

  /** The writer's: waits a little until some block becomes ready; `seen` is what `news` was before it looked. */
  waitForNews(seen: number): void {
    Atomics.wait(this.words, NEWS, seen, NAP);
  }

  get news(): number {
    return Atomics.load(this.words, NEWS);
  }

  /** Claims the next block nobody has claimed and does `work` on it. False where there is none. */
  workOnNext(work: (slot: Slot) => void): boolean {
    const { words } = this;
    for (;;) {
      const number = Atomics.load(words, CLAIMED);
      if (number >= Atomics.load(words, TAIL)) return false;
      if (Atomics.compareExchange(words, CLAIMED, number, number + 1) !== number) continue;
      this.finish(number, work);
      return true;
    }
  }

  /** A helper's whole life: works until the end. */
  help(work: (slot: Slot) => void): void {
    const { words } = this;
    for (;;) {
      const tail = Atomics.load(words, TAIL);
      if (tail === ENDED) return;
      if (!this.workOnNext(work)) Atomics.wait(words, TAIL, tail, NAP);
    }
  }

  get ended(): boolean {
    return Atomics.load(this.words, TAIL) === ENDED;
  }

  private finish(number: number, work: (slot: Slot) => void): void {
    const slot = this.slot(number);
    let state: number = STATE.ready;
    try {
      work(slot);
    } catch (error) {
      slot.setError(error);
      state = STATE.failed;
    }
    Atomics.store(this.words, this.state(number), state);
    Atomics.add(this.words, NEWS, 1);
    Atomics.notify(this.words, NEWS);
  }

  private state(number: number): number {
    return FIRST_STATE + (number % this.slots.length);
  }

  private slot(number: number): Slot {
    return this.slots[number % this.slots.length]!;
  }
}
