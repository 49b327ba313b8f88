/** What is promised of one change of an image's structure: old or new at every power cut and every failing call. */

import { createHash } from 'node:crypto';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { raw } from '../../../src/formats/raw/index.js';
import type { Image } from '../../../src/image/image.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { drained } from '../../../src/lib/steps.js';
import { type Fault, Faults } from '../../../src/storage/faults.js';
import { Journal } from '../../../src/storage/journal.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import type { Storage } from '../../../src/storage/storage.js';
import { CrashStates } from '../../crash/states.js';
import { closedContext, readAll } from '../../support/images.js';
import { Random, SEED } from '../../support/seed.js';

export interface StructureChange {
  readonly start: Uint8Array;
  /** Does it; `storage` stays the caller's. */
  change(storage: Storage): void;
  /** What of the image is to be the old or the new, besides its disk and its snapshots. */
  shows(storage: Storage): unknown;
  /** Steps that may be seen alone: what they make of the start. */
  readonly between?: readonly ((storage: Storage) => void)[];
}

/** States that were looked at, and what was wrong with the first few. */
export interface Examined {
  readonly count: number;
  readonly bad: readonly string[];
}

/** Every state a power cut may leave. Without `barriers`, flushes hold back nothing: the negative control. */
export function afterPowerCuts(subject: StructureChange, barriers: boolean): Examined {
  const before = MemoryStorage.from(subject.start);
  const [old, ...later] = worlds(subject);
  const storage = before.copy();
  const journal = new Journal();
  subject.change(journal.record(storage));
  const random = new Random(SEED);
  const bad: string[] = [];
  const seen = new Set<string>();
  for (const state of new CrashStates(journal.entries, [before], { barriers, random, subsets: 32 }).all()) {
    const [file] = state.files();
    if (file === undefined) throw new Error('a state without a file');
    const last = state.at === journal.entries.length;
    const key = `${last} ${file.fingerprint()}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const wrong = wrongWith(subject, file, last ? later.slice(-1) : [old ?? '', ...later]);
    if (wrong !== undefined) bad.push(`${state.id}: ${wrong}`);
  }
  return { count: seen.size, bad };
}

/** Every call of the storage failing, once or from then on, with nothing done or half of it. */
export function afterFaults(subject: StructureChange): Examined {
  const all = worlds(subject);
  const bad: string[] = [];
  let count = 0;
  for (const persistent of [false, true]) {
    for (const effect of ['io', 'short'] as const) {
      for (let at = 1; ; at++) {
        const fault: Fault = { at, persistent, effect, kinds: ['write', 'flush', 'resize', 'read'], sector: 512 };
        const storage = MemoryStorage.from(subject.start);
        const faults = new Faults(fault);
        const failed = fails(() => subject.change(faults.inject(storage)));
        if (faults.fired === 0) break;
        count++;
        const wrong = wrongWith(subject, storage, failed ? all : all.slice(-1));
        if (wrong !== undefined) bad.push(`${effect} at ${at}${persistent ? ' and on' : ''}: ${wrong}`);
      }
    }
  }
  return { count, bad };
}

function fails(change: () => void): boolean {
  try {
    change();
    return false;
  } catch (error) {
    if (error instanceof ImgfsError) return true;
    throw error;
  }
}

/** What the image shows at the start, after each step, and at the end. */
function worlds(subject: StructureChange): readonly string[] {
  const steps = [() => {}, ...(subject.between ?? []), subject.change];
  return steps.map((step) => {
    const storage = MemoryStorage.from(subject.start);
    step(storage);
    return world(subject, storage);
  });
}

function world(subject: StructureChange, storage: Storage): string {
  const below = (): Image => raw.open(MemoryStorage.from(new Uint8Array(512)), closedContext());
  const image = qcow2.open(storage, { ...closedContext(), openImage: below });
  const snapshots = image.snapshots().map(({ id, name, diskSize }) => {
    const past = image.openSnapshot(id);
    return { id, name, diskSize, disk: digest(past) };
  });
  return JSON.stringify([digest(image), snapshots, image.info.backing?.name, subject.shows(storage)]);
}

function digest(image: Image): string {
  return createHash('sha1').update(readAll(image)).digest('hex');
}

function wrongWith(subject: StructureChange, storage: MemoryStorage, allowed: readonly string[]): string | undefined {
  try {
    if (qcow2.check === undefined) throw new Error('no check');
    const report = drained(qcow2.check(storage, closedContext(), { repair: 'none', tell: () => {} }));
    if (report.corruptions + report.checkErrors > 0) return 'corrupt';
    return allowed.includes(world(subject, storage)) ? undefined : 'neither old nor new';
  } catch (error) {
    return String(error);
  }
}
