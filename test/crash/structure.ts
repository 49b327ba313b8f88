/** Whether a format's structures are sound: its own check, and an independent one where there is one. */
import { drained } from '../../src/lib/steps.js';
import type { MemoryStorage } from '../../src/storage/memory.js';
import { auditQcow2 } from './audit.js';
import { auditVdi } from './audit-vdi.js';
import type { Rig } from './rig.js';

export interface Structure {
  readonly corruptions: readonly string[];
  readonly leakedBytes: number;
}

/** A format's structures as its checker sees them. Never throws. */
export type StructureCheck = (rig: Rig, files: readonly MemoryStorage[]) => Structure;

const SOUND: Structure = { corruptions: [], leakedBytes: 0 };

/** Checks that share no code with the driver, by the name of the format. */
const audits: ReadonlyMap<string, StructureCheck> = new Map<string, StructureCheck>([
  [
    'qcow2',
    (_rig, [image]) => {
      if (image === undefined) return SOUND;
      const { corruptions, leaks, clusterSize } = auditQcow2(image);
      return { corruptions, leakedBytes: leaks * clusterSize };
    },
  ],
  ['vdi', (_rig, [image]) => (image === undefined ? SOUND : auditVdi(image))],
]);

/** The check for a rig: both that there are, which must agree. Formats without structures of their own have none. */
export function structureCheck(rig: Rig): StructureCheck {
  const check = bothChecks(rig);
  return (_rig, files) => (rig.unrepaired(files) ? SOUND : check(rig, files));
}

function bothChecks(rig: Rig): StructureCheck {
  const audit = audits.get(rig.format.name);
  const own = rig.format.check === undefined ? undefined : ownCheck;
  if (own === undefined || audit === undefined) return own ?? audit ?? (() => SOUND);
  return (_rig, files) => {
    const [first, second] = [own(rig, files), audit(rig, files)];
    const corruptions = [...first.corruptions, ...second.corruptions];
    const agree =
      first.corruptions.length > 0 === second.corruptions.length > 0 && first.leakedBytes === second.leakedBytes;
    return {
      corruptions: agree ? corruptions : [...corruptions, `check says ${told(first)}, the audit ${told(second)}`],
      leakedBytes: second.leakedBytes,
    };
  };
}

function ownCheck(rig: Rig, files: readonly MemoryStorage[]): Structure {
  const [image] = files;
  const corruptions: string[] = [];
  if (image === undefined || rig.format.check === undefined) return SOUND;
  try {
    const options = { repair: 'none', tell: (finding: string) => corruptions.push(finding) } as const;
    const report = drained(rig.format.check(image, rig.context(files, false), options));
    const wrong = report.corruptions + report.checkErrors > 0;
    return { corruptions: wrong ? corruptions : [], leakedBytes: report.leaks * rig.unit(files) };
  } catch (error) {
    return { corruptions: [error instanceof Error ? error.message : String(error)], leakedBytes: 0 };
  }
}

function told({ corruptions, leakedBytes }: Structure): string {
  return `${corruptions.length} corruptions and ${leakedBytes} bytes leaked`;
}
