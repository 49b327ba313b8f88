import { bigEndianBytes } from '../../../lib/bits.js';
import { ImgfsError } from '../../../lib/errors.js';
import { encodeHeader, featureBits, type HeaderChanges, movedSnapshot } from '../encode.js';
import { decodeHeader, EXTENSION, HEADER_BYTES, type HeaderFields } from '../layout.js';
import {
  entryOffset,
  hasOffset,
  isCopied,
  KIND,
  L1_ENTRY_BYTES,
  ownedHigh,
  standardKind,
  withCopied,
} from '../read/layout.js';
import { readL1 } from '../read/tables.js';
import { readSnapshots } from '../snapshots.js';
import { putSnapshotTable, withSize } from '../write/snapshot-table.js';
import { putStart } from '../write/start.js';
import { readL2, settleFlags, tablesOf } from '../write/table-walk.js';
import type { Transaction } from '../write/transaction.js';
import type { Volume } from '../write/volume.js';

const NO_FEATURES = featureBits();

/** Version 2 to 3: a longer header, and snapshots that say their size. */
export function upgrade(volume: Volume, change: Transaction): HeaderChanges {
  const { storage, live, limits } = volume;
  const snapshots = readSnapshots(storage, live.now, limits);
  const table = snapshots.some(({ sizeStored }) => !sizeStored)
    ? putSnapshotTable(volume, change, snapshots.map(withSize))
    : {};
  return { ...table, ...putHeader(volume, { version: 3, headerBytes: HEADER_BYTES.known }) };
}

/**
 * Version 3 to 2, which cannot say that a cluster reads as zeros: without a backing file nothing says it too, with one
 * a cluster of zeros does. In the snapshots as well.
 */
export function downgrade(volume: Volume, change: Transaction): HeaderChanges {
  const { storage, live, limits } = volume;
  const header = live.now;
  const zeros = new ZeroClusters(volume, change);
  const active = volume.l1.words.slice();
  const isNew = zeros.replaceIn(active);
  const snapshots = readSnapshots(storage, header, limits).map((entry) => {
    const l1 = readL1(storage, limits, entry.l1At, entry.l1Entries, header);
    if (!zeros.replaceIn(l1)) return { stored: entry.stored, moved: false };
    change.addTable(entry.l1At, entry.l1Entries * L1_ENTRY_BYTES, -1);
    return { stored: movedSnapshot(entry.stored, change.put(bigEndianBytes(l1))), moved: true };
  });
  if (isNew) settleFlags(volume, change, active);
  return {
    ...(isNew ? change.putL1(active) : {}),
    ...(snapshots.some(({ moved }) => moved)
      ? putSnapshotTable(
          volume,
          change,
          snapshots.map(({ stored }) => stored),
        )
      : {}),
    ...putHeader(volume, { version: 2, headerBytes: HEADER_BYTES.version2 }),
  };
}

/** The header in another version, without the features that only version 3 has. */
function putHeader(volume: Volume, change: Pick<HeaderFields, 'version' | 'headerBytes'>): HeaderChanges {
  const { stored, extensions, refcountBits } = volume.live.now;
  const head = Buffer.alloc(HEADER_BYTES.known);
  head.set(stored.subarray(0, head.length));
  const features = { incompatible: NO_FEATURES, compatible: NO_FEATURES, autoclear: NO_FEATURES };
  const fields = decodeHeader(head, volume.storage.name);
  const next = encodeHeader({ ...fields, ...features, ...change, refcountOrder: Math.log2(refcountBits) });
  const only3: readonly number[] = [EXTENSION.featureNames, EXTENSION.bitmaps];
  return putStart(
    volume,
    extensions.all.filter(({ type }) => change.version === 3 || !only3.includes(type)),
    next,
  );
}

/** What became of an L2 table: where it is now, the clusters it has gained, and those it no longer leads to. */
interface Replaced {
  readonly at: number;
  readonly gained: readonly number[];
  readonly lost: readonly number[];
}

/** Takes zero entries out of tables. Each table is replaced once; each way to it counts. */
class ZeroClusters {
  private readonly done = new Map<number, Replaced>();

  constructor(
    private readonly volume: Volume,
    private readonly change: Transaction,
  ) {}

  /** Puts the places of new tables into `l1`. Says whether there are any. */
  replaceIn(l1: Uint32Array): boolean {
    const { change } = this;
    const { clusterSize } = this.volume.live.now;
    let changed = false;
    for (const { index, at } of tablesOf(this.volume, l1)) {
      const known = this.done.get(at);
      const { at: place, gained, lost } = known ?? this.replaced(at, isCopied(l1[index * 2]!));
      if (place === at) continue;
      changed = true;
      if (known !== undefined) for (const cluster of [place / clusterSize, ...gained]) change.add(cluster, 1);
      for (const cluster of [at / clusterSize, ...lost]) change.add(cluster, -1);
      l1[index * 2] = withCopied(ownedHigh(place), false);
      l1[index * 2 + 1] = place % 2 ** 32;
    }
    return changed;
  }

  private replaced(at: number, owned: boolean): Replaced {
    const { volume, change } = this;
    const { clusterSize, backing, encryption } = volume.live.now;
    const table = readL2(volume, at);
    const [gained, lost]: [number[], number[]] = [[], []];
    let changed = false;
    for (let i = 0; i < table.length; i += 2) {
      const [high, low] = [table[i]!, table[i + 1]!];
      const kind = standardKind(high, low, volume.rules);
      if (kind !== KIND.zero && kind !== KIND.zeroAllocated) continue;
      changed = true;
      if (hasOffset(high, low)) lost.push(entryOffset(high, low) / clusterSize);
      table[i] = 0;
      table[i + 1] = 0;
      if (backing === undefined) continue;
      if (encryption !== undefined) {
        throw new ImgfsError(
          'unsupported',
          `${volume.storage.name}: version 2 cannot say its zeros, which are encrypted`,
        );
      }
      // Behind the end of the file it reads as zeros.
      const cluster = change.take(1);
      gained.push(cluster);
      table[i] = withCopied(ownedHigh(cluster * clusterSize), owned);
      table[i + 1] = (cluster * clusterSize) % 2 ** 32;
    }
    const result = { at: changed ? change.put(bigEndianBytes(table)) : at, gained, lost };
    this.done.set(at, result);
    return result;
  }
}
