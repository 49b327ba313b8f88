/** Random operations on an image and on a plain buffer, which must always agree. */
import type { Image } from '../../src/image/image.js';
import type { MemoryStorage } from '../../src/storage/memory.js';
import { type Action, describeOperation, type Operation, perform, stamped } from '../crash/operations.js';
import { type Rig, readEverything } from '../crash/rig.js';
import { rigOf } from '../crash/workload.js';
import { same } from '../crash/world.js';
import type { Random } from '../support/seed.js';
import { choose } from './choose.js';
import type { Configuration } from './configurations.js';

/** The disk and its snapshots as they must be. Bytes past `size` are zeros. */
export interface Model {
  size: number;
  disk: Buffer;
  readonly snapshots: Map<string, Buffer>;
}

/** Operations between two looks at everything. */
const STRIDE = 500;

const REMEMBERED = 12;

export interface ModelResult {
  readonly rig: Rig;
  readonly files: readonly MemoryStorage[];
  readonly model: Model;
}

/** Runs `count` operations. Throws with the last few of them where image and model differ. */
export function runModel(configuration: Configuration, count: number, random: Random): ModelResult {
  const run = new ModelRun(configuration, random);
  try {
    for (let n = 1; n <= count; n++) run.step(n);
    run.finish();
  } catch (error) {
    throw new Error(`${configuration.name}, after ${run.history.join(', ')}: ${error}`, { cause: error });
  }
  return { rig: run.rig, files: run.files, model: run.model };
}

class ModelRun {
  readonly history: string[] = [];
  readonly rig: Rig;
  readonly files: readonly MemoryStorage[];
  readonly model: Model;
  private image: Image;

  constructor(
    private readonly configuration: Configuration,
    private readonly random: Random,
  ) {
    this.rig = rigOf({ ...configuration, operations: [] });
    this.files = this.rig.files.map(({ storage }) => storage);
    this.image = this.rig.open(this.files, true);
    const disk = Buffer.alloc(configuration.most);
    disk.set(readEverything(this.image).disk);
    this.model = { size: this.image.size, disk, snapshots: new Map() };
  }

  step(n: number): void {
    const operation = choose(this.model, this.configuration, this.random);
    this.history.push(`${n}: ${describeOperation(operation)}`);
    if (this.history.length > REMEMBERED) this.history.shift();
    if (operation.do === 'reopen') this.reopen();
    else perform(this.image, operation, n);
    follow(this.model, operation, n);
    this.look();
    if (n % STRIDE === 0 || operation.do === 'apply' || operation.do === 'reopen') this.compare();
  }

  finish(): void {
    this.compare();
    this.reopen();
    this.compare();
    this.image.close();
  }

  private reopen(): void {
    this.image.close();
    this.image = this.rig.open(this.files, true);
  }

  /** Reads somewhere. */
  private look(): void {
    const { size, disk } = this.model;
    if (size === 0) return;
    const at = this.random.below(size);
    const got = new Uint8Array(Math.min(size - at, 1 + this.random.below(2 * this.configuration.unit)));
    this.image.read(got, at);
    expectSame(got, disk.subarray(at, at + got.length), at, 'the disk');
  }

  private compare(): void {
    const { size, disk, snapshots } = this.model;
    const found = readEverything(this.image);
    if (found.disk.length !== size) throw new Error(`the disk has ${found.disk.length} bytes instead of ${size}`);
    expectSame(found.disk, disk.subarray(0, size), 0, 'the disk');
    const names = [...found.snapshots.keys()].sort().join();
    if (names !== [...snapshots.keys()].sort().join()) throw new Error(`the image has the snapshots ${names}`);
    for (const [name, past] of snapshots) {
      expectSame(found.snapshots.get(name)?.disk ?? new Uint8Array(), past, 0, `snapshot ${name}`);
    }
  }
}

/** Does to the model what was done to the image. */
function follow(model: Model, operation: Operation, stamp: number): void {
  const { disk, snapshots } = model;
  switch (operation.do) {
    case 'write':
      disk.set(writtenBy(operation, stamp), operation.at);
      break;
    case 'zero':
    case 'discard':
      disk.fill(0, operation.at, operation.at + operation.length);
      break;
    case 'resize':
      disk.fill(0, Math.min(model.size, operation.size));
      model.size = operation.size;
      break;
    default:
      followSnapshots(model, operation, snapshots);
  }
}

function followSnapshots(model: Model, operation: Operation, snapshots: Map<string, Buffer>): void {
  if (!('name' in operation)) return;
  if (operation.do === 'snapshot') snapshots.set(operation.name, Buffer.from(model.disk.subarray(0, model.size)));
  const past = snapshots.get(operation.name);
  if (past === undefined) throw new Error(`the model has no snapshot ${operation.name}`);
  if (operation.do === 'delete' || operation.do === 'rename') snapshots.delete(operation.name);
  if (operation.do === 'rename') snapshots.set(operation.to, past);
  if (operation.do !== 'apply') return;
  model.disk.fill(0).set(past);
  model.size = past.length;
}

function writtenBy(operation: Action & { do: 'write' }, stamp: number): Uint8Array {
  return operation.zeros === true ? new Uint8Array(operation.length) : stamped(stamp, operation.at, operation.length);
}

function expectSame(got: Uint8Array, expected: Uint8Array, at: number, what: string): void {
  if (same(got, expected)) return;
  const first = got.findIndex((byte, n) => byte !== expected[n]);
  const shown = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(first, first + 16)).toString('hex');
  throw new Error(`${what} at ${at + first} is ${shown(got)} instead of ${shown(expected)}`);
}
