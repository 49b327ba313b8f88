import {
  decodePacked,
  type EntryRules,
  entryOffset,
  extendedKind,
  hasOffset,
  isCompressed,
  isCopied,
  KIND,
  standardKind,
  wellPlaced,
} from '../read/layout.js';
import type { Slice } from '../read/tables.js';
import type { ClusterRun } from './refcount-book.js';
import type { Volume } from './volume.js';

/** What a writer needs to know of a whole L2 entry. */
export interface EntryFacts {
  /**
   * `data`: bytes the guest sees are stored there (compressed ones included). `zero`: all of it reads as zeros by
   * this entry. `hole`: neither; with subclusters perhaps zeros in parts.
   */
  readonly kind: 'data' | 'zero' | 'hole' | 'bad';
  /** Host offset of a cluster that is allocated for it. */
  readonly host: number | undefined;
  /** That cluster is referred to by nothing else. */
  readonly owned: boolean;
  readonly compressed: boolean;
}

const BAD: EntryFacts = { kind: 'bad', host: undefined, owned: false, compressed: false };
const COMPRESSED: EntryFacts = { kind: 'data', host: undefined, owned: false, compressed: true };
const ALL = 2 ** 32 - 1;

/** The facts of entry `n` of a slice, as the guest sees it now. */
export function factsAt(volume: Volume, slice: Slice, n: number): EntryFacts {
  const { live } = slice;
  const { external, extended } = volume.live.now;
  const i = n * volume.l2.words;
  const high = live[i]!;
  const low = live[i + 1]!;
  if (isCompressed(high)) return external ? BAD : COMPRESSED;
  const rules = volume.rules;
  const placed = hasOffset(high, low) || (external && isCopied(high));
  const host = placed ? entryOffset(high, low) : undefined;
  const owned = placed && (isCopied(high) || external);
  if (extended) {
    const zeros = live[i + 2]!;
    const allocated = live[i + 3]!;
    if (!wellPlaced(high, low, rules.clusterMask) || extendedBad(high, low, zeros, allocated, rules)) return BAD;
    const kind = allocated !== 0 ? 'data' : zeros === ALL ? 'zero' : 'hole';
    return { kind, host, owned, compressed: false };
  }
  const kind = standardKind(high, low, rules);
  if (kind === KIND.bad) return BAD;
  if (kind === KIND.data) return { kind: 'data', host, owned, compressed: false };
  const zero = kind === KIND.zero || kind === KIND.zeroAllocated;
  return { kind: zero ? 'zero' : 'hole', host, owned, compressed: false };
}

/** The host clusters entry `n` counts a reference of, as they are in the tables; undefined for none. */
export function referencesOf(volume: Volume, slice: Slice, n: number): ClusterRun | undefined {
  const i = n * volume.l2.words;
  return referencesOfEntry(volume, slice.live[i]!, slice.live[i + 1]!);
}

/** The same for an entry's first two words. A compressed cluster's sectors may lie in two host clusters or more. */
export function referencesOfEntry(volume: Volume, high: number, low: number): ClusterRun | undefined {
  const { clusterSize, clusterBits, external } = volume.live.now;
  if (external) return undefined;
  if (isCompressed(high)) {
    const { offset, length } = decodePacked(high, low, clusterBits, `${volume.storage.name}: a compressed cluster`);
    const first = Math.floor(offset / clusterSize);
    return { first, count: Math.floor((offset + length - 1) / clusterSize) - first + 1 };
  }
  if (!hasOffset(high, low) || !wellPlaced(high, low, clusterSize - 1)) return undefined;
  return { first: entryOffset(high, low) / clusterSize, count: 1 };
}

function extendedBad(high: number, low: number, zeros: number, allocated: number, rules: EntryRules): boolean {
  return extendedKind(high, low, zeros, allocated, 0, rules) === KIND.bad;
}
