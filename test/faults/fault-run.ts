/** Runs a workload while operations of its files fail, and holds what is left to what was promised. */
import type { Image } from '../../src/image/image.js';
import { ImgfsError } from '../../src/lib/errors.js';
import { type Fault, Faults } from '../../src/storage/faults.js';
import type { MemoryStorage } from '../../src/storage/memory.js';
import type { HostCopy } from '../crash/host-copy.js';
import { type Action, describeOperation, type Operation, perform, stamped } from '../crash/operations.js';
import { type Rig, readEverything } from '../crash/rig.js';
import type { StructureCheck } from '../crash/structure.js';
import { isDurable, judge, type Step, worldsAfter, worldsDuring } from '../crash/timeline.js';
import { firstWorld, rigOf, type Workload } from '../crash/workload.js';
import { World } from '../crash/world.js';

const LAST_STAMP = 0xfa17_0000;

/** What one run with one fault came to. */
export interface FaultOutcome {
  /** Operations that were made to fail; 0 says that the fault lay beyond the end. */
  readonly fired: number;
  readonly wrong: readonly string[];
}

/** A workload made ready to be run many times. */
export interface Prepared {
  readonly rig: Rig;
  readonly first: World;
  readonly operations: readonly Operation[];
  readonly gradual: boolean;
  /** Where short writes end. */
  readonly sector: number;
}

export function prepare(workload: Workload): Prepared {
  const rig = rigOf(workload);
  return {
    rig,
    first: firstWorld(rig),
    operations: workload.operations,
    gradual: workload.growsGradually === true,
    sector: workload.wholeSectors === true ? 512 : 1,
  };
}

/** One run. `host` has qemu-img look at the end of it. */
export function runFault(prepared: Prepared, fault: Fault, check: StructureCheck, host?: HostCopy): FaultOutcome {
  const run = new FaultRun(prepared, fault);
  try {
    run.all();
    run.close();
    run.examine(check, host);
  } catch (error) {
    run.wrong.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return { fired: run.faults.fired, wrong: run.wrong };
}

class FaultRun {
  readonly wrong: string[] = [];
  readonly faults: Faults;
  private readonly rig: Rig;
  private readonly memory: readonly MemoryStorage[];
  private storages: ReturnType<Faults['inject']>[];
  private readonly operations: readonly Operation[];
  private readonly gradual: boolean;
  private image: Image | undefined;
  /** What the image must show now, and what must be left if nothing more reaches it. */
  private shown: World;
  private kept: readonly World[];
  /** A flush failed, or what was written to a table could not be undone: nothing more may be written. */
  private broken = false;

  constructor(
    { rig, first, operations, gradual, sector }: Prepared,
    private readonly fault: Fault,
  ) {
    this.rig = rig;
    this.memory = rig.files.map(({ storage }) => storage.copy());
    this.shown = first;
    this.kept = [first];
    this.faults = new Faults({ ...fault, sector });
    this.storages = this.memory.map((storage) => this.faults.inject(storage));
    this.operations = operations;
    this.gradual = gradual;
  }

  all(): void {
    this.open();
    for (const [n, operation] of this.operations.entries()) {
      if (this.image === undefined) return;
      if (operation.do === 'reopen') this.reopen(this.image, `operation ${n} (reopen)`);
      else this.one(this.image, operation, n + 1);
    }
    if (this.image !== undefined) this.use(this.image);
  }

  close(): void {
    try {
      this.image?.close();
    } catch (error) {
      this.expectReason(error, 'close');
      this.broken = true;
    }
  }

  /** What is left, opened as after a restart. */
  examine(check: StructureCheck, host: HostCopy | undefined): void {
    const { rig, memory } = this;
    this.wrong.push(...check(rig, memory).corruptions);
    const image = rig.open(memory, false);
    const verdict = judge(readEverything(image), this.broken ? this.kept : [this.shown], true);
    image.close();
    if (verdict.kind !== 'good') this.wrong.push(`after reopening: ${JSON.stringify(verdict)}`);
    if (host !== undefined && rig.qemu === 'checks' && !rig.unrepaired(memory)) {
      const { code, output } = host.check(host.put(rig.files, memory), rig.format.name);
      if (code !== 0 && code !== 3) this.wrong.push(`qemu-img check ends with ${code}: ${output}`);
    }
  }

  /** What fails once does not fail the second time; what fails for ever leaves nothing open. */
  private open(): void {
    this.image = this.opened() ?? (this.fault.persistent ? undefined : this.opened());
    if (this.image === undefined && !this.fault.persistent) this.wrong.push('could not be opened when tried again');
  }

  /**
   * As by another process: whatever could not be finished may be lost, as far as no flush had kept it, and what is
   * found then has to stay. That a flush had failed is known no more.
   */
  private reopen(image: Image, name: string): void {
    const before = this.faults.fired;
    try {
      // As a mount ends: closing an image that is not written any more touches nothing, and complains of nothing.
      try {
        image.overwrite(new Uint8Array(), 0);
      } finally {
        image.close();
      }
    } catch (error) {
      this.expectReason(error, name);
      if (this.faults.fired === before && !this.broken) this.unprovoked(name, error);
      this.broken = true;
    }
    this.storages = this.memory.map((storage) => this.faults.inject(storage));
    this.open();
    if (this.image === undefined) return;
    const opened = this.image;
    const found = this.faults.suspended(() => readEverything(opened));
    const verdict = judge(found, this.broken ? this.kept : [this.shown], true);
    if (verdict.kind !== 'good') this.wrong.push(`after ${name}: ${JSON.stringify(verdict)}`);
    this.shown = World.of(found.disk, found.snapshots);
    this.kept = [this.shown];
    this.broken = false;
  }

  private opened(): Image | undefined {
    try {
      return this.rig.open(this.storages, true);
    } catch (error) {
      this.expectReason(error, 'open');
      return undefined;
    }
  }

  private one(image: Image, operation: Action, stamp: number): void {
    const before = this.faults.fired;
    const flushes = this.brokenFlushes;
    const step: Step = { operation, stamp, from: 0, to: 0 };
    const name = `operation ${stamp - 1} (${describeOperation(operation)})`;
    if (!possibleIn(this.shown, operation)) return;
    try {
      perform(image, operation, stamp);
    } catch (error) {
      this.expectReason(error, name);
      if (this.faults.fired === before && !this.broken) this.wrong.push(`${name} failed without a fault: ${error}`);
      if (this.brokenFlushes > flushes) this.broken = true;
      this.failed(image, step);
      return;
    }
    const changes = operation.do === 'write' || operation.do === 'flush';
    if (this.broken && changes) this.wrong.push(`${name} succeeded after a failed flush`);
    if (this.brokenFlushes > flushes) {
      this.broken = true;
      this.wrong.push(`${name} succeeded though a flush failed`);
    }
    this.shown = this.shown.certainly(operation, stamp);
    // What failed before came true or not: by now that was seen, and is as durable as the rest.
    this.kept = isDurable(operation) ? [this.shown] : worldsAfter(this.kept, step);
  }

  /** Where writes fail for ever, a table that is half written cannot be mended: the image may end its use. */
  private unprovoked(name: string, error: unknown): void {
    if (this.mayBreak) this.broken = true;
    else this.wrong.push(`${name} failed without a fault: ${error}`);
  }

  private get mayBreak(): boolean {
    return this.fault.persistent && this.fault.growing !== true;
  }

  /** What failed has happened, or not, or to a part of its range. Which of these is seen now must stay. */
  private failed(image: Image, step: Step): void {
    // A snapshot whose making failed is in some of these worlds only; in the others nothing can have come of this.
    const without = this.kept.filter((world) => !possibleIn(world, step.operation));
    const within = this.kept.filter((world) => possibleIn(world, step.operation));
    this.kept = [...without, ...worldsDuring(within, step, this.gradual)];
    const found = this.faults.suspended(() => readEverything(image));
    const verdict = judge(found, [this.shown, this.shown.after(step.operation, step.stamp)], true);
    if (verdict.kind !== 'good') {
      this.wrong.push(`after a failed ${describeOperation(step.operation)}: ${JSON.stringify(verdict)}`);
    }
    this.shown = World.of(found.disk, found.snapshots);
  }

  /** Once nothing fails any more the image can be written, unless a flush had failed. */
  private use(image: Image): void {
    this.faults.lift();
    const operation: Operation = { do: 'write', at: 0, length: Math.min(512, image.size) };
    try {
      image.write(stamped(LAST_STAMP, 0, operation.length), 0);
      image.flush();
    } catch (error) {
      if (!this.broken) this.unprovoked('writing after the fault', error);
      return;
    }
    if (this.broken) this.wrong.push('could be written and flushed after a failed flush');
    this.shown = this.shown.certainly(operation, LAST_STAMP);
    this.kept = [this.shown];
  }

  private get brokenFlushes(): number {
    return this.faults.failed.flush;
  }

  private expectReason(error: unknown, what: string): void {
    if (!(error instanceof ImgfsError)) throw error;
    const { reason, message } = error;
    const space = this.fault.effect !== 'io' && reason === 'no-space';
    const io = reason === 'io' && (this.fault.effect === 'io' || this.broken || this.mayBreak);
    if (!space && !io) this.wrong.push(`${what} failed as ${reason}: ${message}`);
  }
}

/** A snapshot that could not be taken cannot be used; a disk that did not grow is not written there. */
function possibleIn({ size, snapshots }: World, operation: Operation): boolean {
  if ('at' in operation) return operation.at + operation.length <= size;
  if (operation.do === 'snapshot') return !snapshots.has(operation.name);
  return !('name' in operation) || snapshots.has(operation.name);
}
