/**
 * What a raw disk begins with, told from its first bytes. A raw disk needs no header, so none of this is needed to
 * open one; it is evidence against a file that claims to be another format as well (a polyglot).
 */

/** A piece of evidence: what it is and where its last byte is followed by the next. */
export interface DiskContent {
  readonly what: string;
  readonly end: number;
}

const SECTOR = 512;
const ISO9660_AT = 32_769;
const GPT_SECTOR_SIZES = [512, 4096] as const;
const MBR = { entriesAt: 446, entryBytes: 16, entries: 4, signatureAt: 510 } as const;

/** Everything in `head` (the start of a file) that says "this is a disk, as it stands". */
export function diskContents(head: Buffer): readonly DiskContent[] {
  const found: DiskContent[] = [];
  if (isPartitionTable(head)) found.push({ what: 'a partitioned disk (MBR)', end: SECTOR });
  for (const at of GPT_SECTOR_SIZES) {
    if (hasText(head, at, 'EFI PART')) found.push({ what: 'a partitioned disk (GPT)', end: at + SECTOR });
  }
  if (hasText(head, ISO9660_AT, 'CD001'))
    found.push({ what: 'a CD image (ISO 9660)', end: ISO9660_AT + 'CD001'.length });
  return found;
}

/** The 55 AA of a boot sector is not enough: the four entries must make sense, and one must be used. */
function isPartitionTable(head: Buffer): boolean {
  if (head.length < SECTOR || head.toString('hex', MBR.signatureAt, SECTOR) !== '55aa') return false;
  let used = 0;
  for (let n = 0; n < MBR.entries; n++) {
    const at = MBR.entriesAt + n * MBR.entryBytes;
    const active = head.readUInt8(at);
    const type = head.readUInt8(at + 4);
    const sectors = head.readUInt32LE(at + 12);
    if (active % 128 !== 0 || (type === 0) !== (sectors === 0)) return false;
    if (type !== 0) used++;
  }
  return used > 0;
}

function hasText(head: Buffer, at: number, text: string): boolean {
  return head.toString('latin1', at, at + text.length) === text;
}
