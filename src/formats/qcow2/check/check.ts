import type { Checking, CheckOptions, CheckReport } from '../../../image/check.js';
import type { OpenContext } from '../../../image/format.js';
import { Health } from '../../../image/health.js';
import type { Limits } from '../../../image/limits.js';
import { roundDown } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import type { Storage } from '../../../storage/storage.js';
import { type Header, readHeader } from '../header.js';
import { entryOffset, hasOffset, isCopied } from '../read/layout.js';
import { Refcounts } from '../read/refcounts.js';
import { readL1 } from '../read/tables.js';
import { Census } from './census.js';
import { mend } from './repair.js';
import { Steps } from './steps.js';

/** Clusters of a step, at most: a block of narrow refcounts speaks of very many. */
const COMPARED = 65_536;

/**
 * Compares what an image's tables refer to with the refcounts and the flags it stores. With `repair` it mends first
 * and reports what is still wrong afterwards. What QEMU's check counts as a corruption or a leak, this does too.
 * Throws where the image cannot even be opened.
 */
export function* check(storage: Storage, context: OpenContext, options: CheckOptions): Checking {
  const header = readHeader(storage, context.limits);
  const inspection = new Inspection(storage, header, context.limits, options.tell);
  yield* inspection.run();
  if (options.repair === 'none') return inspection.report();
  if (!storage.writable) throw new ImgfsError('read-only', `${storage.name}: cannot be repaired, it is open read-only`);
  const before = inspection.report();
  if (inspection.census.incomplete) {
    options.tell('Nothing is repaired: parts of the image that could not be read may be using what looks unused');
    return before;
  }
  yield* mend({ storage, health: new Health(undefined) }, header, inspection, options.repair);
  const { limits } = context;
  const after = new Inspection(storage, readHeader(storage, limits), limits, () => {});
  yield* after.run();
  const left = after.report();
  return {
    ...left,
    corruptionsFixed: Math.max(0, before.corruptions - left.corruptions),
    leaksFixed: Math.max(0, before.leaks - left.leaks),
  };
}

/** One pass over an image, a table a step, and what `mend` needs to know of it. */
export class Inspection {
  readonly census: Census;
  /** Clusters with a refcount higher, and lower, than the references found. */
  readonly leaked: number[] = [];
  readonly missing: number[] = [];
  readonly steps: Steps;
  private flags = 0;
  /** Without a count there is still the header. */
  private highest = 0;

  constructor(
    private readonly storage: Storage,
    private readonly header: Header,
    private readonly limits: Limits,
    private readonly tell: CheckOptions['tell'],
  ) {
    this.steps = new Steps(header.l1Entries * (header.snapshotCount + 2));
    this.census = new Census(storage, header, limits, { tell, steps: this.steps });
  }

  *run(): Generator<number> {
    yield* this.count();
    yield* this.compareFlags();
    yield 1;
  }

  /** Without the copied flags: what a repair needs, which sets them anyway. */
  *count(): Generator<number> {
    yield* this.census.take();
    yield* this.compareCounts();
  }

  report(): CheckReport {
    const { corruptions, checkErrors, allocated, fragmented, compressed } = this.census.findings;
    const { size, clusterSize } = this.header;
    return {
      corruptions: corruptions + this.missing.length + this.flags,
      leaks: this.leaked.length,
      checkErrors,
      corruptionsFixed: 0,
      leaksFixed: 0,
      imageEnd: (this.highest + 1) * clusterSize,
      // In whole sectors, as QEMU has it.
      units: { total: Math.ceil(roundDown(size, 512) / clusterSize), allocated, fragmented, compressed },
    };
  }

  /** Every cluster that something refers to, or that a refcount block inside the file's length speaks of. */
  private *compareCounts(): Generator<number> {
    const refcounts = new Refcounts(this.storage, this.header);
    const { counts, blocks } = this.census;
    const clusters = Math.ceil(this.storage.size() / this.header.clusterSize);
    const all = Math.max(clusters, counts.highest() + 1);
    const { perBlock } = refcounts;
    const spoken = new Set<number>([...blocks.keys(), ...counts.groups(perBlock)]);
    for (const index of [...spoken].sort((a, b) => a - b)) {
      const end = Math.min((index + 1) * perBlock, all);
      for (let first = index * perBlock; first < end; first += COMPARED) {
        this.compareRange(refcounts, first, Math.min(first + COMPARED, end));
        yield this.steps.part;
      }
    }
  }

  private compareRange(refcounts: Refcounts, first: number, end: number): void {
    for (let cluster = first; cluster < end; cluster++) {
      const stored = this.storedCount(refcounts, cluster);
      const found = this.census.counts.at(cluster);
      if (stored === undefined) continue;
      if (stored > 0 || found > 0) this.highest = cluster;
      if (stored !== found) this.differs(cluster, stored, found);
    }
  }

  private differs(cluster: number, stored: number, found: number): void {
    const what = stored < found ? 'ERROR' : 'Leaked';
    this.tell(`${what}: cluster ${cluster} has refcount ${stored}, referred to ${found} times`);
    (stored < found ? this.missing : this.leaked).push(cluster);
  }

  /** Told and counted where it cannot be read. */
  private storedCount(refcounts: Refcounts, cluster: number): number | undefined {
    const stored = readable(refcounts, cluster);
    if (typeof stored === 'number') return stored;
    this.census.findings.checkErrors++;
    this.tell(`ERROR: the refcount of cluster ${cluster} cannot be read: ${stored.message}`);
    return undefined;
  }

  /** The copied flag of the active tables must say exactly whether a refcount is 1. */
  private *compareFlags(): Generator<number> {
    const { header } = this;
    const refcounts = new Refcounts(this.storage, header);
    const l1 = readL1(this.storage, this.limits, header.l1At, header.l1Entries, header);
    for (let i = 0; i < l1.length; i += 2) {
      this.steps.step();
      const table = entryOffset(l1[i]!, l1[i + 1]!);
      if (!hasOffset(l1[i]!, l1[i + 1]!)) continue;
      this.compareFlag(refcounts, l1[i]!, table, 'L2 table');
      if (!Number.isNaN(table)) this.compareTable(refcounts, table);
      yield this.steps.part;
    }
  }

  private compareTable(refcounts: Refcounts, at: number): void {
    const l2 = this.census.table(at);
    if (l2 === undefined || this.header.external) return;
    const step = this.header.extended ? 4 : 2;
    for (let n = 0; n < l2.length; n += step) {
      const [high, low] = [l2[n]!, l2[n + 1]!];
      if (this.census.isPlaced(high, low)) this.compareFlag(refcounts, high, entryOffset(high, low), 'cluster');
    }
  }

  private compareFlag(refcounts: Refcounts, high: number, at: number, what: string): void {
    // No refcount is stored for what lies beyond 2^53.
    const stored = Number.isNaN(at) ? 0 : readable(refcounts, Math.floor(at / this.header.clusterSize));
    // What cannot be read has been told.
    if (typeof stored !== 'number' || (stored === 1) === isCopied(high)) return;
    this.flags++;
    this.tell(`ERROR: the ${what} at ${at} has refcount ${stored}, its flag says ${isCopied(high) ? '1' : 'not 1'}`);
  }
}

/** A refcount, or why there is none. A block past the end of the file holds zeros, as any such place does. */
function readable(refcounts: Refcounts, cluster: number): number | ImgfsError {
  try {
    return refcounts.at(cluster);
  } catch (error) {
    if (!(error instanceof ImgfsError)) throw error;
    return error.reason === 'truncated' ? 0 : error;
  }
}
