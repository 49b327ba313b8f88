/** One thread of the stress test: writes, zeroes and reads everywhere, and now and then changes the structure. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Image } from '../../src/image/image.js';
import { SharedImage } from '../../src/image/shared-image.js';
import { Sharing } from '../../src/image/sharing.js';
import { FileStorage, type OpenFile } from '../../src/storage/file.js';
import { imageFormat } from '../crash/rig.js';
import { Random } from '../support/seed.js';
import { writableContext } from '../support/written.js';
import { Register } from './register.js';

export const SECTOR = 512;

/** What the threads have in common. */
export interface Stress {
  readonly format: string;
  readonly file: OpenFile;
  readonly sharing: SharedArrayBuffer;
  readonly register: SharedArrayBuffer;
  readonly sectors: number;
  readonly unit: number;
  /** The negative control: nobody learns that tables were changed by others. */
  readonly deaf: boolean;
}

export interface Member extends Stress {
  readonly number: number;
  readonly seed: number;
  readonly steps: number;
}

/** Never hears that anything changed. */
class DeafSharing extends Sharing {
  override stamp(): number {
    return 0;
  }
}

/** The image as one thread has it. */
export function openShared({ format, file, sharing: buffer, deaf }: Stress): Image {
  const sharing = deaf ? new DeafSharing(buffer) : new Sharing(buffer);
  const image = imageFormat(format).open(new FileStorage(file), writableContext({}, { sharing }));
  return new SharedImage(image, sharing);
}

/** The numbers that stand in a sector; one, unless it is being written. */
export function numbersIn(bytes: Buffer, at = 0): readonly number[] {
  const found = new Set<number>();
  for (let here = at; here < at + SECTOR; here += 4) found.add(bytes.readInt32LE(here));
  return [...found];
}

class Stresser {
  private readonly image: Image;
  private readonly register: Register;
  private readonly random: Random;
  private readonly bytes = Buffer.alloc(SECTOR);
  private snapshot: string | undefined;

  constructor(private readonly member: Member) {
    this.image = openShared(member);
    this.register = new Register(member.sectors, member.register);
    this.random = new Random(member.seed);
  }

  /** What was seen wrong first. */
  run(): string | undefined {
    for (let step = 0; step < this.member.steps; step++) {
      const wrong = this.step(step);
      if (wrong !== undefined) return `thread ${this.member.number}, step ${step}: ${wrong}`;
    }
    if (this.snapshot !== undefined) this.image.deleteSnapshot(this.snapshot);
    this.image.close();
    return undefined;
  }

  private step(step: number): string | undefined {
    const { random, image, member } = this;
    // Half of all steps meet in a few clusters.
    const sector = random.below(random.below(2) === 0 ? member.sectors : Math.min(member.sectors, 64));
    const kind = random.below(24);
    if (kind < 10) this.write(sector);
    else if (kind < 12) this.blank(sector, kind === 10);
    else if (kind === 12 && step % 16 === 0) image.flush();
    else if (kind === 13 && step % 8 === 0) image.publish();
    else if (kind === 14 && step % 4 === 0 && member.number === 0) this.restructure();
    else return this.read(sector);
    return undefined;
  }

  private write(sector: number): void {
    this.register.writing(sector, false, (number) => {
      for (let at = 0; at < SECTOR; at += 4) this.bytes.writeInt32LE(number, at);
      this.image.write(this.bytes, sector * SECTOR);
    });
  }

  private blank(sector: number, unmap: boolean): void {
    this.register.writing(sector, true, () => this.image.zero(sector * SECTOR, SECTOR, { unmap }));
  }

  private read(sector: number): string | undefined {
    return this.register.reading(sector, () => {
      this.image.read(this.bytes, sector * SECTOR);
      return numbersIn(this.bytes);
    });
  }

  /** One snapshot at a time, and a disk that grows behind what is written. */
  private restructure(): void {
    const { image, member } = this;
    if (this.random.below(3) === 0) image.resize(image.size + member.unit);
    else if (this.snapshot === undefined) this.snapshot = image.createSnapshot(Buffer.from('stress')).id;
    else {
      image.deleteSnapshot(this.snapshot);
      this.snapshot = undefined;
    }
  }
}

function outcome(member: Member): string | undefined {
  try {
    return new Stresser(member).run();
  } catch (error) {
    return `thread ${member.number}: ${error instanceof Error ? error.stack : String(error)}`;
  }
}

if (parentPort !== null) parentPort.postMessage(outcome(workerData as Member));
