import type { Checking, CheckOptions, CheckReport } from '../../image/check.js';
import type { OpenContext } from '../../image/format.js';
import { Health } from '../../image/health.js';
import { asBuffer } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { type Findings, GrainCensus } from './census.js';
import { readDisk } from './disk.js';
import { openExtents } from './extents.js';
import { newlinesChanged, SECTOR } from './layout.js';
import { markClean, mend } from './repair.js';
import { SparseExtent } from './sparse.js';
import { DiskTables } from './tables.js';

/**
 * Looks at the tables of every sparse extent: whether they lead into the file, to grains of their own and to nothing
 * else, and whether the two copies agree. Copies that differ count as leaks: the first one is right. Repairs what has
 * a sound copy. The parent is not needed. Throws where the image cannot even be opened.
 */
export function* check(storage: Storage, context: OpenContext, options: CheckOptions): Checking {
  const before = yield* inspect(storage, context, options.tell);
  if (options.repair === 'none') return report(before, before);
  if (!storage.writable) throw new ImgfsError('read-only', `${storage.name}: cannot be repaired, it is open read-only`);
  yield* withExtents(storage, context, function* (extents) {
    for (const extent of extents) yield* mend(extent, options);
  });
  const after = yield* inspect(storage, context, () => {});
  if (options.repair === 'all' && after.corruptions + after.checkErrors === 0) {
    yield* withExtents(storage, context, function* (extents) {
      for (const extent of extents) markClean(extent);
      yield 1;
    });
  }
  return report(before, after);
}

function* inspect(
  storage: Storage,
  context: OpenContext,
  tell: CheckOptions['tell'],
): Generator<number, Findings, void> {
  const sum: Findings = {
    corruptions: 0,
    stale: 0,
    checkErrors: 0,
    allocated: 0,
    fragmented: 0,
    packed: 0,
    total: 0,
    end: 0,
  };
  yield* withExtents(storage, context, function* (extents) {
    const grains = extents.reduce((all, { size, grainSize }) => all + Math.ceil(size / grainSize), 0);
    for (const extent of extents) {
      const head = asBuffer(new Uint8Array(SECTOR));
      readTable(extent.storage, head, 0, 'header');
      if (extent.shape.kind === 'hosted' && newlinesChanged(head)) {
        tell(`ERROR: ${extent.storage.name} was changed by a transfer as text`);
        sum.corruptions++;
      }
      const done = sum.total;
      for (const part of new GrainCensus(extent, tell, sum).take()) {
        yield Math.min(1, (done + (part * extent.size) / extent.grainSize) / Math.max(1, grains));
      }
    }
    yield 1;
  });
  return sum;
}

/** Opens the sparse extents of the disk for the steps of `action`; the image's own storage stays open. */
function* withExtents(
  storage: Storage,
  context: OpenContext,
  action: (extents: readonly SparseExtent[]) => Generator<number>,
): Generator<number> {
  const { descriptor, shape } = readDisk(storage, context);
  const caches = new DiskTables(context.limits, undefined, new Health(undefined));
  const storages = new Map<string, Storage>();
  try {
    // Nothing is written by way of mappings here.
    const closed = { ...context, writable: false };
    const extents =
      shape === undefined
        ? openExtents(descriptor, storage.name, { context: closed, caches, storages })
        : [new SparseExtent({ storage, shape, size: shape.size, file: 0, caches, writable: false })];
    yield* action(extents.filter((extent) => extent instanceof SparseExtent));
  } finally {
    for (const opened of storages.values()) opened.close();
  }
}

function report(before: Findings, after: Findings): CheckReport {
  return {
    corruptions: after.corruptions,
    leaks: after.stale,
    checkErrors: after.checkErrors,
    corruptionsFixed: Math.max(0, before.corruptions - after.corruptions),
    leaksFixed: Math.max(0, before.stale - after.stale),
    imageEnd: after.end,
    units: { total: after.total, allocated: after.allocated, fragmented: after.fragmented, compressed: after.packed },
  };
}
