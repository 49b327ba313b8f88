import type { CheckOptions, CheckReport } from '../../../image/check.js';
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

/**
 * Compares what an image's tables refer to with the refcounts and the flags it stores. With `repair` it mends first
 * and reports what is still wrong afterwards. What QEMU's check counts as a corruption or a leak, this does too.
 * Throws where the image cannot even be opened.
 */
export function check(storage: Storage, context: OpenContext, options: CheckOptions): CheckReport {
  const header = readHeader(storage, context.limits);
  const inspection = new Inspection(storage, header, context.limits, options);
  inspection.run();
  if (options.repair === 'none') return inspection.report();
  if (!storage.writable) throw new ImgfsError('read-only', `${storage.name}: cannot be repaired, it is open read-only`);
  const before = inspection.report();
  if (inspection.census.incomplete) {
    options.tell('Nothing is repaired: parts of the image that could not be read may be using what looks unused');
    return before;
  }
  mend({ storage, health: new Health(undefined) }, header, inspection, options.repair);
  const { limits } = context;
  const after = new Inspection(storage, readHeader(storage, limits), limits, { ...options, tell: () => {} });
  after.run();
  const left = after.report();
  return {
    ...left,
    corruptionsFixed: Math.max(0, before.corruptions - left.corruptions),
    leaksFixed: Math.max(0, before.leaks - left.leaks),
  };
}

/** One pass over an image, and what `mend` needs to know of it. */
export class Inspection {
  readonly census: Census;
  /** Clusters with a refcount higher, and lower, than the references found. */
  readonly leaked: number[] = [];
  readonly missing: number[] = [];
  private readonly tell: (finding: string) => void;
  readonly steps: Steps;
  private flags = 0;
  /** Without a count there is still the header. */
  private highest = 0;

  constructor(
    private readonly storage: Storage,
    private readonly header: Header,
    private readonly limits: Limits,
    { tell, progress }: Pick<CheckOptions, 'tell' | 'progress'>,
  ) {
    this.tell = tell;
    this.steps = new Steps(header.l1Entries * (header.snapshotCount + 2), progress);
    this.census = new Census(storage, header, limits, { tell, steps: this.steps });
  }

  run(): void {
    this.count();
    this.compareFlags();
  }

  /** Without the copied flags: what a repair needs, which sets them anyway. */
  count(): void {
    this.census.take();
    this.compareCounts();
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
  private compareCounts(): void {
    const refcounts = new Refcounts(this.storage, this.header);
    const { counts, blocks } = this.census;
    const clusters = Math.ceil(this.storage.size() / this.header.clusterSize);
    const spoken = new Set<number>(blocks.keys());
    for (const cluster of counts.referred()) spoken.add(Math.floor(cluster / refcounts.perBlock));
    for (const index of [...spoken].sort((a, b) => a - b)) {
      const first = index * refcounts.perBlock;
      const end = Math.min(first + refcounts.perBlock, Math.max(clusters, counts.highest() + 1));
      for (let cluster = first; cluster < end; cluster++) this.compareCount(refcounts, cluster);
    }
  }

  private compareCount(refcounts: Refcounts, cluster: number): void {
    const stored = this.storedCount(refcounts, cluster);
    const found = this.census.counts.at(cluster);
    if (stored === undefined) return;
    if (stored > 0 || found > 0) this.highest = cluster;
    if (stored === found) return;
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
  private compareFlags(): void {
    const { header } = this;
    const refcounts = new Refcounts(this.storage, header);
    const l1 = readL1(this.storage, this.limits, header.l1At, header.l1Entries, header);
    const step = header.extended ? 4 : 2;
    for (let i = 0; i < l1.length; i += 2) {
      this.steps.step();
      const table = entryOffset(l1[i]!, l1[i + 1]!);
      if (!hasOffset(l1[i]!, l1[i + 1]!)) continue;
      this.compareFlag(refcounts, l1[i]!, table, 'L2 table');
      if (Number.isNaN(table)) continue;
      const l2 = this.census.table(table);
      if (l2 === undefined) continue;
      for (let n = 0; n < l2.length; n += step) {
        if (!this.census.isPlaced(l2[n]!, l2[n + 1]!)) continue;
        const at = entryOffset(l2[n]!, l2[n + 1]!);
        if (!header.external) this.compareFlag(refcounts, l2[n]!, at, 'cluster');
      }
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
