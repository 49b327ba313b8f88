import { BitPages } from '../../lib/bits.js';
import { corrupt, ImgfsError } from '../../lib/errors.js';
import { isBlock } from './block-map.js';
import type { Volume } from './volume.js';

/** Blocks of the file, by index. */
export interface BlockRange {
  readonly first: number;
  readonly count: number;
}

/** Where the numbers lie that threads share. */
const CELL = { runs: 0, step: 1, known: 2, first: 8 } as const;

/** Runs of free blocks that are known at most. More than a handful come only from images that others left so. */
const MAX_RUNS = 1024;

/** The counter is raised by so many blocks at once: one barrier each time. */
const STEP = { least: 4, most: 256 } as const;

/**
 * Which blocks of the file are free to be handed out. The header counts the blocks that are taken, and whoever writes
 * the image takes the one behind them: so the counter goes up, durably, before any block below it is handed out, in
 * steps, and is brought to its true value at the end. Blocks below it that no entry leads to (a crash, or another
 * program, left them) are handed out first.
 */
export class FreeBlocks {
  constructor(
    private readonly volume: Volume,
    /** Shared by all threads; zeros at first. */
    private readonly cells: Float64Array,
  ) {}

  /** At least one block and at most `count`, one behind the other. */
  take(count: number): BlockRange {
    if (this.cells[CELL.known] !== 1) this.look();
    let runs = this.runs;
    if (runs.length === 0) {
      this.reserve(count);
      runs = this.runs;
    }
    const [{ first, count: length }, ...rest] = runs as [BlockRange, ...BlockRange[]];
    const taken = Math.min(count, length);
    this.runs = taken === length ? rest : [{ first: first + taken, count: length - taken }, ...rest];
    return { first, count: taken };
  }

  /** They are free again. Where too many runs are known already, they are lost until the image is used next. */
  giveBack(range: BlockRange): void {
    this.runs = joined([...this.runs, range]);
  }

  /**
   * Looks for free blocks below the counter, and for entries that lead past it, which it should count: another
   * program died between the two. Returns what the counter must be. Only where no entry is pending: its block would
   * look free. Throws `corrupt` where blocks are shared or beyond reason: writing one would change another.
   */
  learn(): number {
    const { map, header, storage } = this.volume;
    const used = new BitPages();
    const limit = Math.max(header.blocks, header.allocated);
    let counted = header.allocated;
    for (const [block, entry] of map.all()) {
      if (!isBlock(entry)) continue;
      if (entry >= limit || used.has(entry)) {
        throw corrupt(`${storage.name}: guest block ${block} is not stored in a block of its own; it can only be read`);
      }
      used.add(entry);
      counted = Math.max(counted, entry + 1);
    }
    this.runs = unused(used, counted, MAX_RUNS);
    this.cells[CELL.known] = 1;
    return counted;
  }

  /** What the counter is when everything free at its end is given back. */
  settled(): number {
    const { allocated } = this.volume.header;
    if (this.cells[CELL.known] !== 1) return allocated;
    const last = this.runs.at(-1);
    return last !== undefined && last.first + last.count === allocated ? last.first : allocated;
  }

  /**
   * What is free is not known any more: blocks are given other numbers, or the counter is brought to its true value.
   * Called where nothing is pending; the next block to be taken finds that still so.
   */
  forget(): void {
    this.cells[CELL.runs] = 0;
    this.cells[CELL.known] = 0;
  }

  private look(): void {
    const { volume } = this;
    const allocated = this.learn();
    if (allocated === volume.header.allocated) return;
    volume.change({ allocated });
    volume.barrier();
  }

  private reserve(count: number): void {
    const { volume, cells } = this;
    const { allocated, blocks } = volume.header;
    const usual = Math.min(STEP.most, Math.max(STEP.least, Math.ceil(blocks / 4)), cells[CELL.step]! * 2 || STEP.least);
    const step = Math.min(Math.max(usual, count), blocks - allocated);
    if (step <= 0) {
      throw new ImgfsError('corrupt', `${volume.storage.name}: its counter says that all blocks are taken`, {
        hint: 'check and repair it',
      });
    }
    volume.change({ allocated: allocated + step });
    volume.barrier();
    cells[CELL.step] = usual;
    this.runs = [{ first: allocated, count: step }];
  }

  /** In order. */
  private get runs(): readonly BlockRange[] {
    const { cells } = this;
    return Array.from({ length: cells[CELL.runs]! }, (_, n) => {
      const at = CELL.first + 2 * n;
      return { first: cells[at]!, count: cells[at + 1]! };
    });
  }

  private set runs(runs: readonly BlockRange[]) {
    const kept = runs.slice(0, MAX_RUNS);
    this.cells.set(
      kept.flatMap(({ first, count }) => [first, count]),
      CELL.first,
    );
    this.cells[CELL.runs] = kept.length;
  }
}

/** In order, neighbours joined. */
function joined(runs: readonly BlockRange[]): readonly BlockRange[] {
  const result: BlockRange[] = [];
  for (const run of [...runs].sort((a, b) => a.first - b.first)) {
    const last = result.at(-1);
    if (last !== undefined && last.first + last.count === run.first) {
      result[result.length - 1] = { first: last.first, count: last.count + run.count };
    } else result.push(run);
  }
  return result;
}

/**
 * The runs of numbers below `end` that are not in the set. Of more than `most`, the first ones and the last one, which
 * giving back begins with.
 */
export function unused(used: BitPages, end: number, most = Number.POSITIVE_INFINITY): readonly BlockRange[] {
  const runs: BlockRange[] = [];
  for (let at = 0; at < end; ) {
    if (used.has(at)) {
      at++;
      continue;
    }
    const first = at;
    while (at < end && !used.has(at)) at++;
    runs.push({ first, count: at - first });
    if (runs.length > most) runs.splice(most - 1, 1);
  }
  return runs;
}
