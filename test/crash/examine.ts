/** The oracle of one crash state: its structure, its data, and whether it can be used again. */
import type { MemoryStorage } from '../../src/storage/memory.js';
import type { HostCopy } from './host-copy.js';
import { stamped } from './operations.js';
import { type Rig, readEverything } from './rig.js';
import type { StructureCheck } from './structure.js';
import { type Found, judge, type Timeline } from './timeline.js';
import { same, sameStart, type World } from './world.js';

export type Fault = 'corrupt' | 'lost' | 'stray';

export interface Finding {
  readonly fault: Fault;
  readonly what: string;
}

export interface Examined {
  readonly findings: readonly Finding[];
  readonly leakedBytes: number;
}

export interface Examiner {
  readonly rig: Rig;
  readonly timeline: Timeline;
  readonly check: StructureCheck;
  /** Where qemu-img can look at states; undefined where it is not installed or does not know the format. */
  readonly host: HostCopy | undefined;
}

/** Stamp of the write that proves a state usable; no workload has as many operations. */
const RECOVERY_STAMP = 0xfeed_beef;

const SECTOR = 512;

/** Whether qemu-img looks at a state: never, as it is, or again after it was written to. */
export type ByQemu = 'not' | 'once' | 'twice';

/** Examines one state. */
export function examine(
  examiner: Examiner,
  files: readonly MemoryStorage[],
  worlds: readonly World[],
  byQemu: ByQemu,
): Examined {
  const { rig, check, host } = examiner;
  const { corruptions, leakedBytes } = check(rig, files);
  const findings: Finding[] = corruptions.map(corrupt);
  let found: Found | undefined;
  try {
    found = reading(rig, files);
    findings.push(...ofData(examiner, found, worlds));
  } catch (error) {
    findings.push(corrupt(`cannot be read: ${messageOf(error)}`));
  }
  if (byQemu !== 'not' && host !== undefined && rig.qemu !== 'nothing')
    findings.push(...ofQemu(host, rig, files, found));
  if (found !== undefined && findings.length === 0) findings.push(...ofRecovery(examiner, files, found, byQemu));
  return { findings, leakedBytes };
}

function reading(rig: Rig, files: readonly MemoryStorage[]): Found {
  const image = rig.open(files, false);
  try {
    return readEverything(image);
  } finally {
    image.close();
  }
}

function ofData({ timeline }: Examiner, found: Found, worlds: readonly World[]): readonly Finding[] {
  const verdict = judge(found, worlds);
  if (verdict.kind === 'good') return [];
  if (verdict.kind === 'impossible') return [{ fault: 'lost', what: verdict.what }];
  return verdict.sectors.map((sector) => {
    const content = found.disk.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    const fault = timeline.everHeld(sector, SECTOR, content) ? 'lost' : 'stray';
    return { fault, what: `sector ${sector} holds ${excerpt(content)}` };
  });
}

function ofQemu(
  host: HostCopy,
  rig: Rig,
  files: readonly MemoryStorage[],
  found: Found | undefined,
): readonly Finding[] {
  const format = rig.format.name;
  const image = host.put(rig.files, files);
  const findings: Finding[] = [];
  if (rig.qemu === 'checks' && !rig.unrepaired(files)) {
    const { code, output } = host.check(image, format);
    if (code !== 0 && code !== 3) findings.push(corrupt(`qemu-img check ends with ${code}: ${output}`));
  }
  if (found === undefined) return findings;
  try {
    if (!same(host.read(image, format), found.disk)) findings.push({ fault: 'stray', what: 'QEMU reads another disk' });
    // One snapshot is enough per state; which one differs from state to state.
    const names = [...found.snapshots.keys()];
    const name = names[(files[0]?.size() ?? 0) % Math.max(1, names.length)];
    const past = name === undefined ? undefined : found.snapshots.get(name);
    if (name !== undefined && past !== undefined && !sameStart(host.read(image, format, name), past.disk)) {
      findings.push({ fault: 'stray', what: `QEMU reads another snapshot ${name}` });
    }
  } catch (error) {
    findings.push(corrupt(messageOf(error)));
  }
  return findings;
}

/** The state is opened for writing, written to and closed: it must then hold what was found, and the new sector. */
function ofRecovery(
  { rig, check, host }: Examiner,
  files: readonly MemoryStorage[],
  found: Found,
  byQemu: ByQemu,
): readonly Finding[] {
  const copies = files.map((file) => file.copy());
  const expected = Uint8Array.from(found.disk);
  const sectors = Math.floor(expected.length / SECTOR);
  try {
    const image = rig.open(copies, true);
    if (sectors > 0) {
      // Somewhere that depends on the state alone.
      const at = ((copies[0]?.allocated() ?? 0) % 97) * Math.ceil(sectors / 97) * SECTOR;
      const bytes = stamped(RECOVERY_STAMP, at, SECTOR);
      if (at + SECTOR <= expected.length) {
        image.write(bytes, at);
        expected.set(bytes, at);
      }
    }
    image.flush();
    image.close();
    const after = reading(rig, copies);
    const findings = check(rig, copies).corruptions.map((what) => corrupt(`after recovery: ${what}`));
    if (!same(expected, found.disk) && rig.unrepaired(copies)) findings.push(corrupt('written, and still dirty'));
    if (!same(after.disk, expected)) findings.push({ fault: 'stray', what: 'recovery changed the disk' });
    if (!sameSnapshots(after, found)) findings.push({ fault: 'stray', what: 'recovery changed a snapshot' });
    if (byQemu === 'twice' && host !== undefined && rig.qemu === 'checks') {
      const { code, output } = host.check(host.put(rig.files, copies), rig.format.name);
      if (code !== 0 && code !== 3)
        findings.push(corrupt(`after recovery qemu-img check ends with ${code}: ${output}`));
    }
    return findings;
  } catch (error) {
    return [corrupt(`cannot be written again: ${messageOf(error)}`)];
  }
}

function sameSnapshots(a: Found, b: Found): boolean {
  return (
    a.snapshots.size === b.snapshots.size &&
    [...a.snapshots].every(([name, { disk }]) => same(disk, b.snapshots.get(name)?.disk ?? new Uint8Array()))
  );
}

function corrupt(what: string): Finding {
  return { fault: 'corrupt', what };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function excerpt(content: Uint8Array): string {
  return content.every((byte) => byte === 0) ? 'zeros' : Buffer.from(content.subarray(0, 16)).toString('hex');
}
