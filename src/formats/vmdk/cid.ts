/** The content id: a new one with the first change after an image was opened, so that deltas of the old content notice. */
import type { OpenContext } from '../../image/format.js';
import type { Health } from '../../image/health.js';
import { rewrite } from '../../image/rewrite.js';
import { readTable, type Storage } from '../../storage/storage.js';
import type { Live } from './cells.js';
import { cidText } from './descriptor-text.js';
import type { Disk } from './disk.js';

export interface CidParts {
  readonly disk: Disk;
  readonly storage: Storage;
  readonly live: Live;
  readonly health: Health;
  readonly context: OpenContext;
}

/**
 * Writes a new CID over the old one's digits and nothing else of the text. Durable on return: once anything else
 * changes, no delta may take the disk for what it was.
 */
export function changeCid({ disk, storage, live, health, context }: CidParts): void {
  const { cidDigits } = disk.descriptor;
  if (cidDigits === undefined) return;
  const cid = newCid(live.cid, cidDigits.length, context);
  const at = disk.textAt + cidDigits.at;
  const old = Buffer.alloc(cidDigits.length);
  readTable(storage, old, at, 'descriptor');
  const bytes = Buffer.from(cidText(cid).slice(-cidDigits.length));
  rewrite(storage, { at, bytes, old }, health);
  live.cid = cid;
  health.barrier(storage);
}

/** Random where the context has random bytes; another one in any case, with as many digits, and never "no parent". */
function newCid(old: number, digits: number, { randomBytes }: OpenContext): number {
  const count = 16 ** digits;
  const random = randomBytes?.(4).readUInt32LE() ?? old * 1_664_525 + 1_013_904_223;
  for (let cid = random % count; ; cid = (cid + 1) % count) {
    if (cid !== old && cid < 2 ** 32 - 2) return cid;
  }
}
