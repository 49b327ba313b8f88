/** A workload: an image, and what is done to it. Running one records what reached its files and when. */

import type { ImageFormat } from '../../src/image/format.js';
import type { QemuJudge, SampleFile } from '../../src/image/samples.js';
import { Journal, type JournalEntry } from '../../src/storage/journal.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { describeOperation, type Operation, perform } from './operations.js';
import { imageFormat, Rig, readEverything } from './rig.js';
import { judge, type Step, Timeline } from './timeline.js';
import { World } from './world.js';

export interface Workload {
  readonly name: string;
  /** A name of the registry, or a format of a test's own. */
  readonly format: string | ImageFormat;
  /** The image first. */
  readonly files: readonly SampleFile[];
  readonly operations: readonly Operation[];
  /** What qemu-img is asked about its states. */
  readonly qemu?: QemuJudge;
  /** Why space may be lost without a crash. */
  readonly loses?: string | undefined;
  /** As of a sample. */
  readonly growsGradually?: true | undefined;
  /** Failing writes end between sectors. */
  readonly wholeSectors?: true | undefined;
  /** The image is marked dirty: until it is repaired its refcounts mean nothing. */
  readonly beginsDirty?: boolean;
  /** Over storages without a cache above the medium. */
  readonly unbuffered?: true;
  /** For workloads with more or larger states than others: only one in so many is looked at. */
  readonly oneIn?: number;
}

export interface Recording {
  /** The unit in which the image allocates. */
  readonly blockSize: number;
  readonly rig: Rig;
  readonly before: readonly MemoryStorage[];
  readonly after: readonly MemoryStorage[];
  readonly entries: readonly JournalEntry[];
  readonly timeline: Timeline;
}

/** The rig of a workload, with fresh files. */
export function rigOf(workload: Workload): Rig {
  const format = typeof workload.format === 'string' ? imageFormat(workload.format) : workload.format;
  const files = workload.files.map(({ name, role, format: own, bytes }) => {
    const storage = MemoryStorage.from(bytes(), name, workload.unbuffered);
    return own === undefined ? { name, role, storage } : { name, role, storage, format: own };
  });
  return new Rig(format, files, workload.qemu, workload.beginsDirty);
}

/** What the image shows before anything is done to it. */
export function firstWorld(rig: Rig): World {
  const image = rig.open(
    rig.files.map(({ storage }) => storage),
    false,
  );
  const { disk, snapshots } = readEverything(image);
  image.close();
  return World.of(disk, snapshots);
}

/** Runs all operations. Throws where one fails, or where the image then shows something else than was written. */
export function record(workload: Workload): Recording {
  const rig = rigOf(workload);
  const before = rig.files.map(({ storage }) => storage.copy());
  const after = rig.files.map(({ storage }) => storage);
  const first = firstWorld(rig);
  const journal = new Journal();
  const recorded = after.map((storage) => journal.record(storage));
  const steps: Step[] = [];
  const run = { image: rig.open(recorded, true) };
  const operations: readonly Operation[] = [...workload.operations, { do: 'reopen' }];
  for (const [n, operation] of operations.entries()) {
    const from = journal.entries.length;
    try {
      if (operation.do !== 'reopen') perform(run.image, operation, n + 1);
      else {
        run.image.close();
        run.image = rig.open(recorded, true);
      }
    } catch (error) {
      throw new Error(`${workload.name}: operation ${n} (${describeOperation(operation)}) failed: ${error}`, {
        cause: error,
      });
    }
    steps.push({ operation, stamp: n + 1, from, to: journal.entries.length });
  }
  const timeline = new Timeline(first, steps, workload.growsGradually);
  const { blockSize } = run.image;
  assertWritten(workload, run.image, timeline);
  run.image.close();
  assertBaseUntouched(workload, journal.entries);
  return { rig, blockSize, before, after, entries: journal.entries, timeline };
}

function assertWritten(workload: Workload, image: Parameters<typeof readEverything>[0], timeline: Timeline): void {
  const verdict = judge(readEverything(image), [timeline.end()]);
  if (verdict.kind !== 'good') {
    throw new Error(`${workload.name}: the image does not show what was written: ${JSON.stringify(verdict)}`);
  }
}

function assertBaseUntouched(workload: Workload, entries: readonly JournalEntry[]): void {
  const touched = entries.find(({ kind, file }) => kind !== 'flush' && workload.files[file]?.role === 'base');
  if (touched !== undefined) throw new Error(`${workload.name}: wrote to ${workload.files[touched.file]?.name}`);
}
