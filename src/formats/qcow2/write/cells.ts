import { CELLS, type Sharing } from '../../../image/sharing.js';

/**
 * What all threads that have an image open must agree on beyond its tables, as numbers in shared memory; a thread
 * alone has the same numbers to itself. Every place in them is named here.
 */
export const CELL = {
  /** Clusters reserved ahead: the next to hand out, the end, and whether they were never used (1). */
  runNext: 0,
  runEnd: 1,
  runFresh: 2,
  /** Clusters the next reservation asks for. */
  runLength: 3,
  /** Where to look for freed clusters: below it there are none that we know of. */
  freeFrom: 4,
  /** Host clusters from here on were used once at most. */
  freshFrom: 5,
  /** 1 once the image was made ready for changes. */
  started: 6,
  /** 1 where a pending entry must not reach the file before its data is durable. */
  pendingBarrier: 7,
  pendingCount: 8,
  /** Counts the times the pending entries were published. */
  pendingRound: 9,
  heldCount: 10,
  waitingCount: 11,
  /** Host offset at which the next compressed cluster may begin, inside a host cluster; 0 for none. */
  packedNext: 12,
  pending: 16,
  held: 2048,
  waiting: 2560,
} as const;

export const PENDING_MAX = 256;
export const HELD_MAX = 256;
export const WAITING_MAX = 768;

export function cellsOf(sharing: Sharing | undefined): Float64Array {
  return sharing?.cells ?? new Float64Array(CELLS);
}

/** Keys of stamps. Slices of L2 tables and refcount blocks follow, by their offset. */
export const STAMP = {
  /** Bumped with each of the next four, and whenever an entry becomes pending or is published. */
  any: 0,
  header: 1,
  l1: 2,
  refcountTable: 3,
  firstTable: 4,
} as const;
