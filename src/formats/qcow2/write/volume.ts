import type { PlainView } from '../../../image/encrypted.js';
import type { OpenContext } from '../../../image/format.js';
import { Health } from '../../../image/health.js';
import type { Image } from '../../../image/image.js';
import type { Limits } from '../../../image/limits.js';
import { OwnStamps, type Stamps } from '../../../image/sharing.js';
import type { Storage } from '../../../storage/storage.js';
import type { HeaderChanges } from '../encode.js';
import type { Header } from '../header.js';
import { AUTOCLEAR, keptFeatures } from '../layout.js';
import type { EntryRules } from '../read/layout.js';
import { rulesOf } from '../read/lookup.js';
import { ActiveL1, L2Cache } from '../read/tables.js';
import { CELL, cellsOf, STAMP } from './cells.js';
import { repairDirty } from './dirty.js';
import { Frees } from './frees.js';
import { Guard } from './guard.js';
import { LiveHeader } from './live-header.js';
import { Pending } from './pending.js';
import { RefcountBook } from './refcount-book.js';
import { Reserve } from './reserve.js';
import { markBitmapsStale } from './stale-bitmaps.js';
import { type Transaction, transact } from './transaction.js';

/** One opened image: its files, its tables, and what is on its way into them. Opening reads header and L1 only. */
export class Volume {
  readonly limits: Limits;
  readonly stamps: Stamps;
  readonly cells: Float64Array;
  readonly health: Health;
  readonly live: LiveHeader;
  readonly l1: ActiveL1;
  readonly l2: L2Cache;
  readonly refcounts: RefcountBook;
  readonly guard: Guard;
  readonly pending: Pending;
  readonly reserve: Reserve;
  readonly frees: Frees;
  readonly rules: EntryRules;
  /** Told how far a repair has come. */
  readonly progress: ((part: number) => void) | undefined;
  backing: Image | undefined;
  /** Of an encrypted image: what its clusters hold in plain. Closed with the image. */
  view: PlainView | undefined;
  private seen: number;

  constructor(
    readonly storage: Storage,
    readonly data: Storage,
    header: Header,
    context: OpenContext,
  ) {
    const { limits, sharing } = context;
    const stamps = sharing ?? new OwnStamps();
    this.limits = limits;
    this.progress = context.progress;
    this.stamps = stamps;
    this.rules = rulesOf(header);
    this.cells = cellsOf(sharing);
    this.health = new Health(sharing);
    this.seen = stamps.stamp(STAMP.any);
    this.live = new LiveHeader(storage, header, limits, stamps);
    this.l1 = new ActiveL1(storage, limits, stamps, header);
    this.l2 = new L2Cache(storage, header, limits, stamps, context.filling);
    this.refcounts = new RefcountBook(storage, this.live, stamps, this.health);
    this.guard = new Guard(storage, this.live, this.l1, this.refcounts, limits);
    this.pending = new Pending(this.cells, this.l2, stamps, header.clusterSize);
    this.reserve = new Reserve(this);
    this.frees = new Frees(storage, this.cells, this.refcounts, this.reserve, header.clusterSize);
  }

  /** Where the backing image ends; 0 without one. Asked for only where it matters: it need not be open to be named. */
  get backingSize(): number {
    return this.backing?.size ?? 0;
  }

  /**
   * Where the guest's bytes from `guest` on are read and written, which lie at `host`. LUKS counts sectors of the host,
   * qcow's own method sectors of the guest.
   */
  content(guest: number, host: number): Storage {
    if (this.view === undefined) return this.data;
    return this.live.now.encryption === 'luks' ? this.view.at() : this.view.at({ origin: host - guest });
  }

  /** Called before each look at the tables: learns what other threads changed. */
  catchUp(): void {
    const stamp = this.stamps.stamp(STAMP.any);
    if (stamp !== this.seen) this.learn(stamp);
  }

  /** Everything written before is durable; what waited for that to be freed is freed. */
  barrier(): void {
    this.l2.settle();
    // Guest data first: what is in the tables may lead to it.
    if (this.data !== this.storage) this.health.barrier(this.data);
    this.health.barrier(this.storage);
    this.frees.settle();
  }

  /** Writes the pending entries into the tables, their data being durable first where it must be. */
  publish(): void {
    const { pending, l2 } = this;
    if (pending.count === 0) return;
    if (pending.needsBarrier) this.barrier();
    for (const at of pending.slices()) {
      const slice = l2.sliceAt(at);
      const runs = pending.runsOf(at);
      const first = runs.reduce((least, run) => Math.min(least, run.first), l2.entries);
      const end = runs.reduce((most, run) => Math.max(most, run.first + run.count), 0);
      l2.write(at, first, slice.live.slice(first * l2.words, end * l2.words), this.health);
      slice.live = slice.disk;
    }
    pending.published();
    this.frees.published();
  }

  /**
   * Changes the structure in one step. Nothing is on its way into the tables then, so that `make` may count
   * references by what the file holds.
   */
  change(make: (change: Transaction) => HeaderChanges): void {
    this.settle();
    transact(this, make);
  }

  /** Nothing is pending, waiting or reserved, and all is durable: the refcounts are exact. */
  settle(): void {
    this.publish();
    this.barrier();
    this.reserve.giveBack();
  }

  /**
   * Once, before the first change of anything, guest data included. What the last writer left to be repaired is
   * repaired. Autoclear features say that nobody has written the image without keeping up what they describe (bitmaps,
   * or something newer), which is about to end.
   */
  prepare(): void {
    if (this.ready) return;
    if (this.live.now.dirty) repairDirty(this);
    const { autoclear, clusterSize } = this.live.now;
    const stale = markBitmapsStale(this.storage, this.live.now, this.limits, this.health);
    const kept = keptFeatures(autoclear, [AUTOCLEAR.dataFileRaw, ...(stale ? [AUTOCLEAR.bitmaps] : [])]);
    if (autoclear.high !== kept.high || autoclear.low !== kept.low) {
      this.live.change({ autoclear: kept }, this.health);
      this.health.barrier(this.storage);
    }
    this.cells[CELL.freshFrom] = Math.ceil(this.storage.size() / clusterSize);
    this.cells[CELL.started] = 1;
  }

  get ready(): boolean {
    return this.cells[CELL.started] === 1;
  }

  private learn(stamp: number): void {
    const moved = this.live.catchUp();
    const changed = this.l1.catchUp(this.live.now);
    if (moved || changed) this.guard.forget();
    this.pending.catchUp();
    this.seen = stamp;
  }
}
