/** A VDI as its bytes have it, read without any code of the driver: what its check is held to. */
import type { MemoryStorage } from '../../src/storage/memory.js';
import type { Structure } from './structure.js';

/** Places of the fields in version 1.1, and in the first one, where map and blocks follow the header. */
const FIELDS = { map: 340, data: 344, blockSize: 376, extra: 380, blocks: 384, counter: 388 } as const;
const OLD = { blockSize: 360, blocks: 364, counter: 368, map: 420 } as const;
const CURRENT_VERSION = 0x1_0001;

/** No block of the file used twice, none at or past the counter, no map that reaches into the blocks. */
export function auditVdi(image: MemoryStorage): Structure {
  const bytes = Buffer.from(image.bytes());
  const field = (at: number): number => bytes.readUInt32LE(at);
  const old = field(68) !== CURRENT_VERSION;
  const [blocks, counter] = old
    ? [field(OLD.blocks), field(OLD.counter)]
    : [field(FIELDS.blocks), field(FIELDS.counter)];
  const map = old ? OLD.map : field(FIELDS.map);
  const data = old ? map + blocks * 4 : field(FIELDS.data);
  const corruptions: string[] = [];
  if (map < (old ? OLD.map : 456) || data < map + blocks * 4) corruptions.push(`the map at ${map} is not alone`);
  const used = new Map<number, number>();
  for (let n = 0; n < blocks; n++) {
    const entry = field(map + n * 4);
    if (entry >= 0xffff_fffe) continue;
    const other = used.get(entry);
    if (other !== undefined) corruptions.push(`guest blocks ${other} and ${n} are both in block ${entry}`);
    if (entry >= counter) corruptions.push(`block ${entry} of guest block ${n} is not counted`);
    used.set(entry, n);
  }
  const unit = field(old ? OLD.blockSize : FIELDS.blockSize);
  return { corruptions, leakedBytes: corruptions.length > 0 ? 0 : (counter - used.size) * unit };
}
