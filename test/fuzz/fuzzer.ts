/**
 * The fuzzer: mutants of every format's specimens are opened, mapped, read and closed. Each must end in bytes or an
 * ImgfsError, soon and within its memory; some are also compared with qemu-img.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { ImageFormat } from '../../src/image/format.js';
import type { Specimen } from '../../src/image/samples.js';
import { exercise } from '../support/exercise.js';
import { imageFormats, samplesOf } from '../support/samples.js';
import { Random } from '../support/seed.js';

import { type Comparison, compare, type Verdict } from './differential.js';
import { explanation } from './explained.js';
import { mutate } from './mutate.js';

export interface FuzzOptions {
  readonly seed: number;
  readonly seconds: number;
  /** The first case; with `seconds` 0 exactly this one is run. */
  readonly first?: number;
  /** Every so many cases one is compared with qemu-img; 0 for never. */
  readonly compareEvery: number;
}

export interface FuzzReport {
  readonly cases: number;
  readonly opened: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly compared: Readonly<Partial<Record<Verdict, number>>>;
  /** What differs between us and QEMU for a known reason, with how often. */
  readonly explained: Readonly<Record<string, number>>;
  /** Accepted by one of us only, and nobody has said why: to be looked into, and then fixed or explained. */
  readonly untriaged: readonly string[];
  /** What must not happen, as (case, recipe, what). */
  readonly failures: readonly string[];
  readonly slowest: number;
  readonly grownMiB: number;
}

/** Memory a run may gain over what it had after its first cases. */
const MAX_GROWTH_MIB = 128;
const WARM_UP = 200;
const MAX_FAILURES = 20;

interface Target {
  readonly format: ImageFormat;
  readonly specimen: Specimen;
}

function targets(): Target[] {
  return imageFormats.flatMap((format) =>
    samplesOf(format.name)
      .specimens()
      .map((specimen) => ({ format, specimen })),
  );
}

export function fuzz(options: FuzzOptions): FuzzReport {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'imgfs-fuzz-'));
  try {
    return new Run(options, directory).toEnd();
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

class Run {
  private readonly all = targets();
  private readonly refused: Record<string, number> = {};
  private readonly compared: Partial<Record<Verdict, number>> = {};
  private readonly explained: Record<string, number> = {};
  private readonly untriaged: string[] = [];
  private readonly failures: string[] = [];
  private opened = 0;
  private slowest = 0;
  private memory = 0;

  constructor(
    private readonly options: FuzzOptions,
    private readonly directory: string,
  ) {}

  toEnd(): FuzzReport {
    const { first = 0, seconds } = this.options;
    const end = performance.now() + seconds * 1000;
    let n = first;
    do {
      this.one(n++);
      if (n - first === WARM_UP) this.memory = process.resourceUsage().maxRSS;
    } while (performance.now() < end && this.failures.length < MAX_FAILURES);
    const grownMiB = this.memory === 0 ? 0 : (process.resourceUsage().maxRSS - this.memory) / 1024;
    if (grownMiB > MAX_GROWTH_MIB) this.failures.push(`grew by ${grownMiB.toFixed(0)} MiB in ${n - first} cases`);
    const { opened, refused, compared, explained, untriaged, failures, slowest } = this;
    return { cases: n - first, opened, refused, compared, explained, untriaged, failures, slowest, grownMiB };
  }

  private one(n: number): void {
    const random = Random.forCase(this.options.seed, n);
    const { format, specimen } = random.pick(this.all);
    const { bytes, recipe } = mutate(specimen, random);
    const described = (what: string): string =>
      `IMGFS_SEED=${this.options.seed} IMGFS_FUZZ_CASE=${n}: ${format.name} ${recipe}: ${what}`;
    try {
      const outcome = exercise(format, bytes, { reads: 200, extents: 100, random, beside: specimen.beside });
      this.slowest = Math.max(this.slowest, outcome.milliseconds);
      if (outcome.refused === undefined) this.opened++;
      else this.refused[outcome.refused] = (this.refused[outcome.refused] ?? 0) + 1;
    } catch (error) {
      this.failures.push(described(error instanceof Error ? (error.stack ?? error.message) : String(error)));
      return;
    }
    const { compareEvery } = this.options;
    const wanted = compareEvery > 0 && n % compareEvery === 0 && specimen.notForQemu === undefined;
    if (!wanted) return;
    const comparison = compare(format, bytes, specimen.beside ?? [], this.directory);
    this.compared[comparison.verdict] = (this.compared[comparison.verdict] ?? 0) + 1;
    if (comparison.verdict !== 'different') this.judge(comparison, described);
    else {
      const why = specimen.misreadByQemu?.(bytes);
      if (why === undefined) this.failures.push(described('reads differ from those of qemu-img'));
      else this.explain(why);
    }
  }

  /** What only one of us accepts. */
  private judge({ verdict, said, reason }: Comparison, described: (what: string) => string): void {
    const claim = reason === undefined || reason === 'corrupt' || reason === 'truncated';
    if (verdict !== 'only we accept' && !(verdict === 'only QEMU accepts' && claim)) return;
    const why = explanation(verdict, said);
    if (why === undefined) this.untriaged.push(described(`${verdict}: ${said}`));
    else this.explain(why);
  }

  private explain(why: string): void {
    this.explained[why] = (this.explained[why] ?? 0) + 1;
  }
}
