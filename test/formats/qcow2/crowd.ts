/** A thread of the stress test: writes, zeroes and reads its own sectors of an image that others write too. */
import { parentPort, workerData } from 'node:worker_threads';
import { qcow2 } from '../../../src/formats/qcow2/index.js';
import { raw } from '../../../src/formats/raw/index.js';
import type { Image } from '../../../src/image/image.js';
import { SharedImage } from '../../../src/image/shared-image.js';
import { Sharing } from '../../../src/image/sharing.js';
import { FileStorage, type OpenFile } from '../../../src/storage/file.js';
import { Random } from '../../support/seed.js';
import { writableContext } from '../../support/written.js';

export const SECTOR = 4096;

export interface Crowd {
  readonly file: OpenFile;
  readonly base: OpenFile;
  readonly sharing: SharedArrayBuffer;
  /** What each sector is filled with, one word each. */
  readonly model: SharedArrayBuffer;
  readonly threads: number;
}

export interface Member extends Crowd {
  readonly number: number;
  readonly seed: number;
  readonly steps: number;
}

/** The image as one thread has it. */
export function openShared({ file, base, sharing: buffer }: Crowd): Image {
  const sharing = new Sharing(buffer);
  const context = writableContext(
    {},
    { sharing, openImage: () => raw.open(new FileStorage(base), { ...writableContext(), writable: false }) },
  );
  return new SharedImage(qcow2.open(new FileStorage(file), context), sharing);
}

/** A word of the sector that is not `want`; undefined when all are. */
export function stranger(sector: Buffer, want: number): number | undefined {
  for (let at = 0; at < sector.length; at += 4) if (sector.readInt32LE(at) !== want) return sector.readInt32LE(at);
  return undefined;
}

/** Neighbouring sectors belong to different threads, so every cluster is fought over. */
function work(member: Member): string | undefined {
  const image = openShared(member);
  const model = new Int32Array(member.model);
  const random = new Random(member.seed);
  const bytes = Buffer.alloc(SECTOR);
  for (let step = 0; step < member.steps; step++) {
    const sector = random.below(model.length / member.threads) * member.threads + member.number;
    const kind = random.below(20);
    if (kind < 9) {
      const value = (member.number + 1) * 16_777_216 + step;
      for (let at = 0; at < SECTOR; at += 4) bytes.writeInt32LE(value, at);
      image.write(bytes, sector * SECTOR);
      model[sector] = value;
    } else if (kind < 11) {
      image.zero(sector * SECTOR, SECTOR, { unmap: kind === 9 });
      model[sector] = 0;
    } else if (kind === 11 && step % 40 === 0) image.flush();
    else if (kind === 12 && step % 20 === 0) image.publish();
    else {
      image.read(bytes, sector * SECTOR);
      const found = stranger(bytes, model[sector]!);
      if (found !== undefined) return `step ${step}, sector ${sector}: ${found} instead of ${model[sector]}`;
    }
  }
  image.close();
  return undefined;
}

if (parentPort !== null) parentPort.postMessage(work(workerData as Member));
