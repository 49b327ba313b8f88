/** Known differences between what we accept and what qemu-img accepts, and why each is as it should be. */
import type { Verdict } from './differential.js';

interface Difference {
  readonly verdict: Verdict;
  /** What the one that refused says. */
  readonly said: RegExp;
  readonly why: string;
}

const DIFFERENCES: readonly Difference[] = [
  {
    verdict: 'only QEMU accepts',
    said: /past the end of the file|ends inside|ends before|beyond 2\^53/,
    why: 'QEMU reads a table past the end of the file as zeros; to us a table that was cut off is lost, not empty',
  },
  {
    verdict: 'only QEMU accepts',
    said: /L2 entry for guest offset \d+ is invalid|L1 entry \d+ does not point to an L2 table/,
    why: 'offsets from 2^53 to 2^56 lie past the end of any file: QEMU reads zeros there, to us such an entry is damaged',
  },
  {
    verdict: 'only QEMU accepts',
    said: /which no image of its size has/,
    why: "a VDI's map leads past all blocks: QEMU reads zeros there, but its own check calls it an error",
  },
  {
    verdict: 'only QEMU accepts',
    said: /the block map lies inside the header|the blocks begin inside the block map|the header is too short/,
    why: 'VirtualBox refuses such a VDI, too; QEMU does not look, and would write over the map',
  },
  {
    verdict: 'only QEMU accepts',
    said: /bytes before each block/,
    why: 'QEMU knows nothing of bytes in front of the blocks of a VDI, and reads wrong ones',
  },
  {
    verdict: 'only we accept',
    said: /non-NULL parent UUID/,
    why: "the UUID of a parent's modification names no parent, and VirtualBox does not look at it there either",
  },
  {
    verdict: 'only we accept',
    said: /unaligned (data|block map) offset/,
    why: "only QEMU wants a VDI's map and blocks to begin with a sector: what lies elsewhere is found all the same",
  },
  {
    verdict: 'only we accept',
    said: /'encrypt\.key-secret' is required/,
    why: 'qemu-img is given no passphrase, and we are',
  },
  {
    verdict: 'only QEMU accepts',
    said: /cannot make out the extent/,
    why: 'QEMU skips lines of a vmdk that it cannot read, and shows a disk without what they name',
  },
  {
    verdict: 'only we accept',
    said: /snapshot/i,
    why: 'we read the snapshot table when it is asked for: a damaged one does not keep the disk from being read',
  },
  {
    verdict: 'only we accept',
    said: /bitmap/i,
    why: 'we read bitmaps only to list them: damaged ones do not keep the disk from being read',
  },
  {
    verdict: 'only we accept',
    said: /Header extension too large/,
    why: 'a length in the end marker of the header extensions means nothing',
  },
];

/** Why the difference is right, or undefined where nobody has said so yet. */
export function explanation(verdict: Verdict, said: string): string | undefined {
  return DIFFERENCES.find((each) => each.verdict === verdict && each.said.test(said))?.why;
}
