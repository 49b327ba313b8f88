import type { Checking, CheckOptions, CheckReport } from '../../image/check.js';
import type { OpenContext } from '../../image/format.js';
import { BitPages, roundDown, roundUp } from '../../lib/bits.js';
import { ImgfsError } from '../../lib/errors.js';
import { readPadded, type Storage } from '../../storage/storage.js';
import {
  decodePacked,
  ENTRY_BYTES,
  entryOffset,
  HEADER_BYTES,
  isCompressed,
  isEmpty,
  type PackedPlace,
  SECTOR,
} from './layout.js';
import { Volume } from './volume.js';

/**
 * Follows every table and looks for what is used twice, lies outside the file or belongs to nothing. There are no
 * refcounts to compare with, and nothing that could be mended. Throws where the image cannot be opened, and
 * `unsupported` for a repair.
 */
export function* check(storage: Storage, context: OpenContext, options: CheckOptions): Checking {
  if (options.repair !== 'none') {
    throw new ImgfsError('unsupported', `${storage.name}: a qcow image cannot be repaired`, {
      hint: 'copy its disk to a new image',
    });
  }
  const inspection = new Inspection(storage, new Volume(storage, { ...context, writable: false }), options);
  yield* inspection.run();
  return inspection.report();
}

class Inspection {
  private corruptions = 0;
  private checkErrors = 0;
  private leaks = 0;
  private allocated = 0;
  private fragmented = 0;
  private compressed = 0;
  /** Sectors that something lies in; and those where that is streams, which may share one with each other. */
  private readonly used = new BitPages();
  private readonly streams = new BitPages();
  private readonly fileBytes: number;
  /** Where the cluster after the last one seen would lie if the disk was in one piece. */
  private next = 0;
  private end = 0;

  constructor(
    private readonly storage: Storage,
    private readonly volume: Volume,
    private readonly options: CheckOptions,
  ) {
    this.fileBytes = storage.size();
  }

  *run(): Generator<number> {
    const { header, l1, l2Bytes } = this.volume;
    this.ownParts();
    for (const { index, offset } of this.volume.tables()) {
      yield index / l1.entries;
      const what = `the L2 table of L1 entry ${index}`;
      if (this.placed(offset, l2Bytes, what) && this.claim(offset, l2Bytes, what)) this.table(index, offset);
    }
    this.unused(header.clusterSize);
    yield 1;
  }

  report(): CheckReport {
    const { corruptions, checkErrors, leaks, allocated, fragmented, compressed, end } = this;
    const { size, clusterSize } = this.volume.header;
    return {
      corruptions,
      leaks,
      checkErrors,
      corruptionsFixed: 0,
      leaksFixed: 0,
      imageEnd: roundUp(end, clusterSize),
      units: { total: Math.ceil(roundDown(size, SECTOR) / clusterSize), allocated, fragmented, compressed },
    };
  }

  /** Header, name and L1 share sectors, but no byte. */
  private ownParts(): void {
    const { header, l1 } = this.volume;
    const name = header.backing ?? { at: HEADER_BYTES, bytes: 0 };
    const parts = [{ at: 0, bytes: HEADER_BYTES }, name, { at: l1.at, bytes: l1.bytes }].sort((a, b) => a.at - b.at);
    parts.forEach(({ at, bytes }, n) => {
      const before = parts[n - 1];
      if (before !== undefined && before.at + before.bytes > at) this.corrupt('header, name and L1 table overlap');
      this.mark(at, bytes);
    });
  }

  private table(index: number, at: number): void {
    const { l2Entries, clusterBits, clusterSize, size } = this.volume.header;
    const table = this.read(at);
    for (let n = 0; table !== undefined && n < l2Entries; n++) {
      const [high, low] = [table.readUInt32BE(n * ENTRY_BYTES), table.readUInt32BE(n * ENTRY_BYTES + 4)];
      if (isEmpty(high, low)) continue;
      const guest = (index * l2Entries + n) * clusterSize;
      if (guest >= size) this.corrupt(`an entry for guest offset ${guest}, behind the end of the disk`);
      this.allocated++;
      if (isCompressed(high)) this.stream(guest, () => decodePacked(high, low, clusterBits, 'its offset'));
      else this.cluster(guest, entryOffset(high, low));
    }
  }

  private cluster(guest: number, at: number): void {
    const { clusterSize } = this.volume.header;
    const what = `the cluster of guest offset ${guest}`;
    if (this.placed(at, clusterSize, what)) this.claim(at, clusterSize, what);
    if (this.next !== 0 && at !== this.next) this.fragmented++;
    this.next = at + clusterSize;
  }

  /** Streams lie at any byte, one after the other. Two guest clusters may even share one: it is never overwritten. */
  private stream(guest: number, place: () => PackedPlace): void {
    this.compressed++;
    this.fragmented++;
    const what = `the compressed cluster of guest offset ${guest}`;
    try {
      const { offset, length } = place();
      if (length === 0 || offset + length > this.fileBytes) this.corrupt(`${what} lies outside the file`);
      else this.claim(offset, length, what, this.streams);
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      this.corrupt(`${what}: ${error.message}`);
    }
  }

  /**
   * Whether a table or cluster lies where one can. What ends past the end of the file, rounded to a cluster, would be
   * handed out a second time.
   */
  private placed(at: number, bytes: number, what: string): boolean {
    if (Number.isNaN(at) || at % SECTOR !== 0) this.corrupt(`${what} is misplaced`);
    else if (at + bytes > roundUp(this.fileBytes, this.volume.header.clusterSize))
      this.corrupt(`${what} lies outside the file`);
    else return true;
    return false;
  }

  /** Takes sectors for something. Told once, and false, where they are another's; `sharing` are those that may be. */
  private claim(at: number, bytes: number, what: string, sharing?: BitPages): boolean {
    let free = true;
    for (let sector = Math.floor(at / SECTOR); sector * SECTOR < at + bytes; sector++) {
      if (this.used.has(sector) && sharing?.has(sector) !== true) free = false;
      sharing?.add(sector);
    }
    this.mark(at, bytes);
    if (!free) this.corrupt(`${what}, at ${at}, overlaps something else`);
    return free;
  }

  private mark(at: number, bytes: number): void {
    for (let sector = Math.floor(at / SECTOR); sector * SECTOR < at + bytes; sector++) this.used.add(sector);
    this.end = Math.max(this.end, at + bytes);
  }

  /** Whole clusters that nothing lies in. Behind L1, QEMU fills up sectors as long as its own; whoever is there stays. */
  private unused(clusterSize: number): void {
    const { at, bytes } = this.volume.l1;
    this.mark(at, roundUp(bytes, SECTOR));
    let from = 0;
    const gap = (end: number): void => {
      const [first, last] = [Math.ceil((from * SECTOR) / clusterSize), Math.floor(end / clusterSize)];
      if (last <= first) return;
      this.leaks += last - first;
      this.options.tell(`Leaked: ${(last - first) * clusterSize} bytes at ${first * clusterSize} belong to nothing`);
    };
    for (const { first, count } of this.used.runs()) {
      gap(first * SECTOR);
      from = first + count;
    }
    gap(this.fileBytes);
  }

  /** Zeros past the end of the file; undefined where the host fails, which is told. */
  private read(at: number): Buffer | undefined {
    const bytes = Buffer.alloc(this.volume.l2Bytes);
    try {
      readPadded(this.storage, bytes, at);
      return bytes;
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      this.checkErrors++;
      this.options.tell(`ERROR: the L2 table at ${at} cannot be read: ${error.message}`);
      return undefined;
    }
  }

  private corrupt(finding: string): void {
    this.corruptions++;
    this.options.tell(`ERROR: ${finding}`);
  }
}
