/** What is done to a block between reading and writing: the same in every thread. */
import { pack } from '../codec/pack.js';
import type { Packing } from '../image/image.js';
import type { ReadDisk } from './joined.js';
import type { BlockRun, Slot } from './ring.js';
import { readSalvaging } from './salvage.js';
import { zeroRuns } from './zeros.js';

/** How blocks are prepared. Structured-clone data. */
export interface BlockWork {
  /** Bytes: so many zeros at once, at a multiple of that, become a hole. 0 keeps all as they are. */
  readonly unit: number;
  /** Set where what is written is packed first: whole units, the one the target ends in filled up with zeros. */
  readonly packing: Pick<Packing, 'unit' | 'method'> | undefined;
  /** Where the target ends. */
  readonly end: number;
  /** What cannot be read becomes zeros, and is noted. */
  readonly salvage: boolean;
}

/**
 * Reads the block of a slot, divides it into what becomes holes and what is written, and packs that where it is wanted
 * and makes it smaller. Throws what reading throws.
 */
export function prepareBlock(disk: ReadDisk, slot: Slot, work: BlockWork): void {
  const { from, to } = slot;
  const bytes = slot.bytes.subarray(0, to - from);
  if (work.salvage) slot.setLost(readSalvaging(disk, bytes, from));
  else disk.read(bytes, from);
  slot.setRuns(work.packing === undefined ? found(bytes, from, work.unit) : packed(slot, bytes.length, work));
}

function* found(bytes: Buffer, at: number, unit: number): Generator<BlockRun> {
  if (unit === 0) yield { zero: false, from: 0, to: bytes.length, packed: 0 };
  else for (const { zero, from, to } of zeroRuns(bytes, at, unit)) yield { zero, from, to, packed: 0 };
}

/** The packed forms lie one after the other, without gaps. */
function* packed(slot: Slot, length: number, work: BlockWork): Generator<BlockRun> {
  const { packing, end } = work;
  let packedEnd = 0;
  for (const run of found(slot.bytes.subarray(0, length), slot.from, work.unit)) {
    if (run.zero || packing === undefined) {
      yield run;
      continue;
    }
    for (let from = run.from; from < run.to; ) {
      const next = from + packing.unit;
      const to = Math.min(run.to, next);
      // What the target has beyond the source in the same unit is not ours to replace.
      const whole = to === next || slot.from + to === end;
      if (to < next) slot.bytes.fill(0, to, next);
      const small = whole ? pack(packing.method, slot.bytes.subarray(from, next)) : undefined;
      if (small !== undefined) slot.packed.set(small, packedEnd);
      packedEnd += small?.length ?? 0;
      yield { zero: false, from, to, packed: small?.length ?? 0 };
      from = to;
    }
  }
}
