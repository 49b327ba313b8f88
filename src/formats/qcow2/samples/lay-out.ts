/** Turns a recipe of `samples.ts` into the bytes of a file: where everything lies, and how often it is used. */
import { roundUp } from '../../../lib/bits.js';
import { encodeBitmap, encodeSnapshot, encodeSnapshotExtra, putEntry, putPacked } from '../encode.js';
import { SUBCLUSTERS } from '../layout.js';
import { encodeRefcount } from '../read/layout.js';
import { sampleHeader } from './header.js';
import type { SampleCluster, SampleImage } from './image.js';

/** A run of host clusters: contents (written last, when everything has its place) and how often it is used. */
interface Piece {
  readonly clusters: number;
  at: number;
  uses: number;
  bytes: Buffer;
}

/** A disk state on its way to the file: the active one, or a snapshot with its machine state behind the disk. */
interface State {
  readonly clusters: ReadonlyMap<number, SampleCluster>;
  readonly l1: Piece;
  readonly l1Entries: number;
  readonly l2: ReadonlyMap<number, Piece>;
}

/** The file, and where its parts lie, for recipes that damage one. All offsets are bytes. */
export interface LaidOut {
  readonly image: Uint8Array;
  readonly l1At: number;
  readonly l2At: ReadonlyMap<number, number>;
  readonly refcountTableAt: number;
  readonly snapshotsAt: number;
  readonly bitmapsAt: number;
}

export function layOut(recipe: SampleImage): LaidOut {
  return new Plan(recipe).build();
}

class Plan {
  private readonly pieces: Piece[] = [];
  private readonly host = new Map<SampleCluster, Piece>();
  private readonly packedAt = new Map<SampleCluster, number>();
  private packed: Piece | undefined;
  private packedBytes = 0;
  private readonly clusterSize: number;
  private readonly perTable: number;
  private readonly entryBytes: number;

  constructor(private readonly recipe: SampleImage) {
    this.clusterSize = recipe.clusterSize;
    this.entryBytes = recipe.options.extended === true ? 16 : 8;
    this.perTable = this.clusterSize / this.entryBytes;
  }

  build(): LaidOut {
    const { recipe } = this;
    const header = this.piece(1);
    const states = [
      this.state(recipe.clusters, recipe.size),
      ...recipe.snapshots.map((snapshot) => this.state(this.withVmState(snapshot), snapshot.size)),
    ];
    const [active] = states;
    if (active === undefined) throw new Error('no state');
    const snapshots = recipe.snapshots.length === 0 ? undefined : this.pieceFor(this.snapshotTable(states.slice(1)));
    const bitmaps = this.bitmapPieces();
    const { cryptMethod, luksHead = new Uint8Array(this.clusterSize) } = recipe.options;
    const crypto = cryptMethod === 2 ? this.pieceFor(luksHead) : undefined;
    if (crypto !== undefined) crypto.bytes = Buffer.from(luksHead);
    const refcounts = this.refcountPieces();
    this.place(header);
    for (const state of states) this.fill(state, state === active);
    if (snapshots !== undefined) snapshots.bytes = this.snapshotTable(states.slice(1));
    if (bitmaps !== undefined) bitmaps.directory.bytes = this.bitmapDirectory(bitmaps.table);
    this.fillPacked();
    this.fillRefcounts(refcounts);
    header.bytes = sampleHeader(recipe, {
      l1At: active.l1.at,
      l1Entries: active.l1Entries,
      refcountTableAt: refcounts.table.at,
      refcountTableClusters: refcounts.table.clusters,
      snapshotsAt: snapshots?.at ?? 0,
      ...(bitmaps === undefined
        ? {}
        : { bitmaps: { at: bitmaps.directory.at, bytes: bitmaps.directory.bytes.length } }),
      ...(crypto === undefined ? {} : { crypto: { at: crypto.at, bytes: luksHead.length } }),
    });
    return {
      image: this.write(),
      l1At: active.l1.at,
      l2At: new Map([...active.l2].map(([index, piece]) => [index, piece.at])),
      refcountTableAt: refcounts.table.at,
      snapshotsAt: snapshots?.at ?? 0,
      bitmapsAt: bitmaps?.directory.at ?? 0,
    };
  }

  private piece(clusters: number): Piece {
    const piece = { clusters, at: 0, uses: 1, bytes: Buffer.alloc(0) };
    this.pieces.push(piece);
    return piece;
  }

  private pieceFor(bytes: Uint8Array): Piece {
    return this.piece(Math.max(1, Math.ceil(bytes.length / this.clusterSize)));
  }

  private state(clusters: ReadonlyMap<number, SampleCluster>, size: number): State {
    const highest = Math.max(-1, ...clusters.keys());
    const span = this.perTable * this.clusterSize;
    const l1Entries = Math.max(1, Math.ceil(size / span), Math.floor(highest / this.perTable) + 1);
    const l2 = new Map<number, Piece>();
    const l1 = this.piece(Math.ceil((l1Entries * 8) / this.clusterSize));
    for (const [number, cluster] of clusters) {
      const table = Math.floor(number / this.perTable);
      if (!l2.has(table)) l2.set(table, this.piece(1));
      this.reserve(cluster);
    }
    return { clusters, l1, l1Entries, l2 };
  }

  /** Gives a cluster its host space at its first use, and counts the further ones. */
  private reserve(cluster: SampleCluster): void {
    if (cluster.bytes === undefined || (this.recipe.options.dataFile !== undefined && cluster.kind !== 'packed'))
      return;
    if (cluster.kind === 'packed') {
      if (this.packedAt.has(cluster)) return;
      this.packedAt.set(cluster, this.packedBytes);
      this.packedBytes += cluster.bytes.length;
      return;
    }
    const known = this.host.get(cluster);
    if (known === undefined) {
      const piece = this.piece(1);
      piece.bytes = Buffer.from(cluster.bytes);
      this.host.set(cluster, piece);
    } else known.uses++;
  }

  private withVmState(snapshot: SampleImage['snapshots'][number]): ReadonlyMap<number, SampleCluster> {
    const clusters = new Map(snapshot.clusters);
    const first = Math.ceil(snapshot.size / (this.perTable * this.clusterSize)) * this.perTable;
    const full = Array.from({ length: SUBCLUSTERS }, () => true);
    for (let at = 0; at < snapshot.vmState.length; at += this.clusterSize) {
      const bytes = new Uint8Array(this.clusterSize);
      bytes.set(snapshot.vmState.subarray(at, at + this.clusterSize));
      clusters.set(first + at / this.clusterSize, { kind: 'data', bytes, allocated: full, zeros: [] });
    }
    return clusters;
  }

  private snapshotTable(states: readonly State[]): Buffer {
    const entries = this.recipe.snapshots.map((snapshot, index) => {
      const state = states[index];
      const vmStateSize = snapshot.vmState.length;
      return encodeSnapshot({
        l1At: state?.l1.at ?? 0,
        l1Entries: state?.l1Entries ?? 0,
        id: Buffer.from(snapshot.id),
        name: snapshot.name,
        seconds: 1_700_000_000 + index,
        nanoseconds: 5,
        vmStateSize,
        extra: encodeSnapshotExtra(vmStateSize, snapshot.size).subarray(0, snapshot.extraBytes),
      });
    });
    return Buffer.concat(entries);
  }

  private bitmapPieces(): { directory: Piece; table: Piece } | undefined {
    if ((this.recipe.options.bitmaps ?? []).length === 0) return undefined;
    const table = this.piece(1);
    return { directory: this.pieceFor(this.bitmapDirectory(table)), table };
  }

  /** All bitmaps are empty and share one table of zeros. */
  private bitmapDirectory(table: Piece): Buffer {
    const entries = (this.recipe.options.bitmaps ?? []).map((bitmap) => {
      const tableEntries = Math.ceil(this.recipe.size / bitmap.granularity / 8 / this.clusterSize);
      return encodeBitmap({ ...bitmap, tableAt: table.at, tableEntries });
    });
    return Buffer.concat(entries);
  }

  private get refcountBits(): number {
    return this.recipe.options.refcountBits ?? 16;
  }

  /** The refcounts count their own clusters too: grow until they fit. */
  private refcountPieces(): { table: Piece; blocks: Piece[] } {
    const perBlock = (this.clusterSize * 8) / this.refcountBits;
    if (this.packedBytes > 0) this.packed = this.piece(Math.ceil(this.packedBytes / this.clusterSize) + 1);
    const others = this.pieces.reduce((sum, piece) => sum + piece.clusters, 0);
    let blocks = 1;
    let table = 1;
    while (Math.ceil((others + blocks + table) / perBlock) > blocks || blocks * 8 > table * this.clusterSize) {
      blocks = Math.ceil((others + blocks + table) / perBlock);
      table = Math.ceil((blocks * 8) / this.clusterSize);
    }
    return { table: this.piece(table), blocks: Array.from({ length: blocks }, () => this.piece(1)) };
  }

  /** The header is always first; compressed clusters are last when the file shall end with them. */
  private place(header: Piece): void {
    const { shuffle, cutAfterPacked } = this.recipe.options;
    const rest = this.pieces.filter((piece) => piece !== header && piece !== this.packed);
    if (this.packed !== undefined && cutAfterPacked !== true) rest.push(this.packed);
    if (shuffle !== undefined) shuffled(rest, shuffle);
    if (this.packed !== undefined && cutAfterPacked === true) rest.push(this.packed);
    let at = this.clusterSize;
    for (const piece of rest) {
      piece.at = at;
      at += piece.clusters * this.clusterSize;
    }
  }

  private fill(state: State, active: boolean): void {
    state.l1.bytes = Buffer.alloc(state.l1Entries * 8);
    for (const [index, table] of state.l2) {
      table.bytes = Buffer.alloc(this.clusterSize);
      putEntry(state.l1.bytes, index * 8, { offset: table.at, copied: active });
    }
    for (const [number, cluster] of state.clusters) {
      const table = Math.floor(number / this.perTable);
      const at = (number - table * this.perTable) * this.entryBytes;
      const into = state.l2.get(table)?.bytes;
      if (into !== undefined) this.fillEntry(into, at, cluster, number, active);
    }
  }

  private fillEntry(into: Buffer, at: number, cluster: SampleCluster, number: number, active: boolean): void {
    const { extended, dataFile, clusterBits } = this.recipe.options;
    if (cluster.kind === 'packed') {
      const offset = (this.packed?.at ?? 0) + (this.packedAt.get(cluster) ?? 0);
      putPacked(into, at, offset, cluster.bytes?.length ?? 0, clusterBits ?? 16);
      return;
    }
    const piece = this.host.get(cluster);
    const external = dataFile !== undefined && cluster.bytes !== undefined;
    const offset = external ? number * this.clusterSize : (piece?.at ?? 0);
    const copied = external || (active && piece?.uses === 1);
    putEntry(into, at, { offset, copied, zero: cluster.kind === 'zero' && extended !== true });
    if (extended !== true) return;
    into.writeUInt32BE(wordOf(cluster.zeros), at + 8);
    into.writeUInt32BE(wordOf(cluster.allocated), at + 12);
  }

  private fillPacked(): void {
    if (this.packed === undefined) return;
    this.packed.bytes = Buffer.alloc(this.packedBytes);
    for (const [cluster, at] of this.packedAt) this.packed.bytes.set(cluster.bytes ?? [], at);
  }

  private fillRefcounts(refcounts: { table: Piece; blocks: Piece[] }): void {
    const uses = new Map<number, number>();
    for (const piece of this.pieces) {
      if (piece === this.packed) continue;
      for (let n = 0; n < piece.clusters; n++) uses.set(piece.at / this.clusterSize + n, piece.uses);
    }
    this.countPacked(uses);
    const perBlock = (this.clusterSize * 8) / this.refcountBits;
    refcounts.table.bytes = Buffer.alloc(refcounts.table.clusters * this.clusterSize);
    refcounts.blocks.forEach((block, index) => {
      block.bytes = Buffer.alloc(this.clusterSize);
      putEntry(refcounts.table.bytes, index * 8, { offset: block.at });
      for (let n = 0; n < perBlock; n++) {
        const count = uses.get(index * perBlock + n) ?? 0;
        if (count >= 2 ** this.refcountBits) throw new RangeError(`a refcount of ${count} does not fit`);
        if (count > 0) encodeRefcount(block.bytes, n, this.refcountBits, count);
      }
    });
  }

  /** A compressed cluster uses every host cluster its sectors touch, once per state that maps it. */
  private countPacked(uses: Map<number, number>): void {
    for (const { clusters } of [this.recipe, ...this.recipe.snapshots]) {
      for (const cluster of clusters.values()) {
        if (cluster.kind !== 'packed') continue;
        const at = (this.packed?.at ?? 0) + (this.packedAt.get(cluster) ?? 0);
        const end = roundUp(at + (cluster.bytes?.length ?? 0), 512);
        for (let n = Math.floor(at / this.clusterSize); n * this.clusterSize < end; n++) {
          uses.set(n, (uses.get(n) ?? 0) + 1);
        }
      }
    }
  }

  private write(): Uint8Array {
    const end = Math.max(...this.pieces.map((piece) => piece.at + piece.clusters * this.clusterSize));
    const cut = this.recipe.options.cutAfterPacked === true && this.packed !== undefined;
    const image = new Uint8Array(cut ? (this.packed?.at ?? 0) + this.packedBytes : end);
    for (const piece of this.pieces) image.set(piece.bytes, piece.at);
    return image;
  }
}

function wordOf(flags: readonly boolean[]): number {
  return flags.reduce((sum, flag, n) => sum + (flag ? 2 ** n : 0), 0);
}

/** Fisher-Yates with a small generator of its own: the same seed gives the same file on every machine. */
function shuffled(pieces: Piece[], seed: number): void {
  let state = seed;
  for (let i = pieces.length - 1; i > 0; i--) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 31;
    const j = Math.floor((state / 2 ** 31) * (i + 1));
    [pieces[i], pieces[j]] = [pieces[j]!, pieces[i]!];
  }
}
