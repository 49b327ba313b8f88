import type { Health } from '../../../image/health.js';
import type { Limits } from '../../../image/limits.js';
import { rewrite } from '../../../image/rewrite.js';
import type { Stamps } from '../../../image/sharing.js';
import type { Storage } from '../../../storage/storage.js';
import { type HeaderChanges, putHeaderChanges } from '../encode.js';
import { type Header, headerOf, readHeader, readStart } from '../header.js';
import { AUTOCLEAR, hasFeature } from '../layout.js';
import { STAMP } from './cells.js';

/** What a medium stores whole or not at all. All fields that change lie in the first one. */
const SECTOR = 512;

/**
 * The header of an open image: immutable values, replaced as a whole. Changing it is the one write by which a new
 * table, size or snapshot list comes into being, so it is always one write of one sector.
 */
export class LiveHeader {
  private current: Header;
  private stamp: number;

  constructor(
    private readonly storage: Storage,
    header: Header,
    private readonly limits: Limits,
    private readonly stamps: Stamps,
  ) {
    this.stamp = stamps.stamp(STAMP.header);
    this.current = header;
  }

  get now(): Header {
    return this.current;
  }

  /** Reads it again if another thread changed it. Says whether it did. */
  catchUp(): boolean {
    const stamp = this.stamps.stamp(STAMP.header);
    if (stamp === this.stamp) return false;
    this.current = readHeader(this.storage, this.limits);
    this.stamp = stamp;
    return true;
  }

  /**
   * Stores changed fields. What they point to must be durable; they themselves are after the next barrier. When the
   * write fails and cannot be undone, nobody can tell which header the file has: the image is damaged.
   */
  change({ start, ...changes }: HeaderChanges, health: Health): void {
    const old = readStart(this.storage, SECTOR);
    const sector = Buffer.from(start ?? old);
    putHeaderChanges(sector, changes, this.current.clusterSize);
    if (start !== undefined) {
      this.replaceStart(sector, health);
      return;
    }
    rewrite(this.storage, { at: 0, bytes: sector, old }, health);
    const { autoclear, ...fields } = changes;
    this.current = {
      ...this.current,
      ...fields,
      ...(autoclear === undefined ? {} : { autoclear, bitmapsValid: hasFeature(autoclear, AUTOCLEAR.bitmaps) }),
    };
    this.changed();
  }

  /** As `change`, of the whole first sector, extensions included. Once it is written nothing is left that could fail. */
  replaceStart(sector: Buffer, health: Health): void {
    const cluster = readStart(this.storage, this.current.clusterSize);
    const old = Buffer.from(cluster.subarray(0, sector.length));
    sector.copy(cluster);
    const next = headerOf(cluster, this.storage, this.limits);
    rewrite(this.storage, { at: 0, bytes: sector, old }, health);
    this.current = next;
    this.changed();
  }

  private changed(): void {
    this.stamps.bump(STAMP.header);
    this.stamps.bump(STAMP.any);
    this.stamp = this.stamps.stamp(STAMP.header);
  }
}
