import type { Health } from '../../image/health.js';
import type { Limits } from '../../image/limits.js';
import { rewrite } from '../../image/rewrite.js';
import type { Stamps } from '../../image/sharing.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { decodeHeader, type Header, readHeader, SECTOR } from './header.js';
import { countUuid, type Places } from './layout.js';

/** The stamp of the header. Pieces of the map have the others. */
const STAMP = 0;

/** Fields that change while an image is used. */
export type HeaderChanges = Partial<Pick<Header, 'size' | 'blocks' | 'allocated' | 'mapAt' | 'dataAt'>> & {
  /** Its content is about to change: it gets another modification UUID. */
  readonly modified?: true;
};

/** The header of an open image: immutable values, replaced as a whole, by one write of one sector. */
export class LiveHeader {
  private current: Header;
  private stamp: number;

  constructor(
    private readonly storage: Storage,
    private readonly limits: Limits,
    private readonly stamps: Stamps,
    private readonly health: Health,
  ) {
    this.stamp = stamps.stamp(STAMP);
    this.current = readHeader(storage, limits);
  }

  get now(): Header {
    return this.current;
  }

  /** Reads it again if another thread changed it. Says whether it did. */
  catchUp(): boolean {
    const stamp = this.stamps.stamp(STAMP);
    if (stamp === this.stamp) return false;
    this.current = readHeader(this.storage, this.limits);
    this.stamp = stamp;
    return true;
  }

  /** Stores changed fields. What they lead to must be durable; they themselves are after the next barrier. */
  change(changes: HeaderChanges): void {
    const old = Buffer.alloc(SECTOR);
    const { places } = this.current;
    // A header with its map may end before the sector does, in a file that holds nothing else.
    const length = Math.min(SECTOR, this.storage.size());
    readTable(this.storage, old.subarray(0, length), 0, 'header');
    const next = Buffer.from(old);
    putChanges(next, places, changes);
    const decoded = decodeHeader(next, this.storage.name, this.limits);
    rewrite(this.storage, { at: 0, bytes: next.subarray(0, length), old: old.subarray(0, length) }, this.health);
    this.current = decoded;
    this.stamps.bump(STAMP);
    this.stamp = this.stamps.stamp(STAMP);
  }
}

function putChanges(sector: Buffer, places: Places, { modified, ...fields }: HeaderChanges): void {
  const put = (at: number | undefined, value: number | undefined): void => {
    if (at !== undefined && value !== undefined) sector.writeUInt32LE(value, at);
  };
  put(places.blocks, fields.blocks);
  put(places.allocated, fields.allocated);
  put(places.mapAt, fields.mapAt);
  put(places.dataAt, fields.dataAt);
  if (fields.size !== undefined) sector.writeBigUInt64LE(BigInt(fields.size), places.diskSize);
  if (modified === true) countUuid(sector, places.modified);
}
