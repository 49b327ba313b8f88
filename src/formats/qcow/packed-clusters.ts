import type { FileEnd } from '../../image/file-end.js';
import type { PackedUnit } from '../../image/mapping.js';
import type { PackedUnits, Space, UnitRun } from '../../image/units.js';
import { roundUp } from '../../lib/bits.js';
import { CompressedCluster, Unpacker } from './compressed.js';
import type { Volume } from './volume.js';

/** Numbers that threads share: where the next stream may begin, and where that space ends. */
export const PACKED_CELLS = 2;
const NEXT = 0;
const END = 1;

/**
 * Space for compressed clusters: one stream behind the other at any byte, in clusters taken from the end of the file.
 * What a stream leaves behind that another one replaces is lost, as is every place that is given up in this format.
 */
export class PackedClusters implements PackedUnits {
  readonly method = 'deflate';
  private readonly unpacker: Unpacker;

  constructor(
    private readonly volume: Volume,
    private readonly end: FileEnd,
    private readonly cells: Float64Array,
    /** Sees to the table for a guest offset. */
    private readonly tableFor: (start: number) => void,
  ) {
    this.unpacker = new Unpacker(volume.storage);
  }

  take(start: number, bytes: number): Space {
    this.tableFor(start);
    const { cells, volume } = this;
    if (cells[END]! - cells[NEXT]! < bytes) this.open(bytes);
    const offset = cells[NEXT]!;
    cells[NEXT] = offset + bytes;
    return { storage: volume.storage, offset, length: bytes, fresh: false };
  }

  giveBack({ offset, length }: Space): void {
    const { cells } = this;
    if (cells[NEXT] === offset + length) cells[NEXT] = offset;
  }

  unit({ offset, packed = 0 }: UnitRun, skip: number): PackedUnit {
    const { clusterSize } = this.volume.header;
    return new CompressedCluster(clusterSize, skip, { offset, length: packed }, this.unpacker);
  }

  /** No stream goes on where the last one ended. */
  close(): void {
    this.cells.fill(0);
  }

  /** Goes on behind the last stream where the new space follows it. */
  private open(bytes: number): void {
    const { cells, end } = this;
    const length = roundUp(bytes, this.volume.header.clusterSize);
    const { offset } = end.take(length);
    if (offset !== cells[END]) cells[NEXT] = offset;
    cells[END] = offset + length;
  }
}
