/** Whether a format's structures are sound: each check there is for it, by the name of the format. */
import type { MemoryStorage } from '../../src/storage/memory.js';
import { auditQcow2 } from './audit.js';
import type { Rig } from './rig.js';

export interface Structure {
  readonly corruptions: readonly string[];
  readonly leakedBytes: number;
}

/** A format's structures as its checker sees them. Never throws. */
export type StructureCheck = (rig: Rig, files: readonly MemoryStorage[]) => Structure;

const SOUND: Structure = { corruptions: [], leakedBytes: 0 };

const checks: ReadonlyMap<string, StructureCheck> = new Map<string, StructureCheck>([
  [
    'qcow2',
    (_rig, [image]) => {
      if (image === undefined) return SOUND;
      const { corruptions, leaks, clusterSize } = auditQcow2(image);
      return { corruptions, leakedBytes: leaks * clusterSize };
    },
  ],
]);

/** The check for a rig. Formats without structures of their own have none. */
export function structureCheck(rig: Rig): StructureCheck {
  return checks.get(rig.format.name) ?? (() => SOUND);
}

/** Whether qemu-img can check images of the format. */
export function qemuChecks(format: string): boolean {
  return format === 'qcow2';
}
