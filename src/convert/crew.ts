/** The threads that prepare blocks beside the one that writes. */
import { Worker } from 'node:worker_threads';
import { codecsNeedPreparing } from '../codec/zstd.js';
import type { ImagePlan } from '../image/plan.js';
import { ImgfsError } from '../lib/errors.js';
import type { BlockWork } from './block.js';
import type { Piece } from './pieces.js';
import { Ring, type RingMemory } from './ring.js';

/** What a thread is given. Structured-clone data. */
export interface CrewJob {
  readonly ring: RingMemory;
  /** The sources, one after the other: opened again by descriptors alone. */
  readonly plans: readonly ImagePlan[];
  readonly work: BlockWork;
  readonly prepareCodecs: boolean;
}

export interface CrewOptions extends Pick<CrewJob, 'plans' | 'work'> {
  /** How many threads there shall be. */
  readonly count: number;
  /** Bytes the sources take on the host, about. */
  readonly hostBytes: number;
}

const MIB = 1024 * 1024;
/** Milliseconds of work that a second thread takes over for each MiB, about: reading alone it hardly speeds up. */
const TAKEN_OVER = { reading: 0.1, unpacking: 2, packing: 12 };
/** So much work is worth starting threads for, which takes a part of it itself. */
const WORTHWHILE = 100;

/**
 * Threads that are started when there turns out to be enough work. They read through the descriptors of images that the
 * main thread has open: these must stay open until `end` has returned.
 */
export class Crew {
  private shared: Ring | undefined;
  /** One for each thread: settled when it is gone. */
  private readonly gone: Promise<void>[] = [];
  private expected = 0;
  private failure: unknown;

  constructor(private readonly options: CrewOptions) {}

  /** Where the threads look for blocks; undefined while there are none. */
  get ring(): Ring | undefined {
    return this.shared;
  }

  /** Told of every piece that will be read. What the sources take on the host says how much more will come. */
  expect({ from, to, packed }: Piece): void {
    const { hostBytes, work, count } = this.options;
    const kind = work.packing !== undefined ? 'packing' : packed ? 'unpacking' : 'reading';
    // One thread reads faster than another writes.
    const wanted = kind === 'reading' ? 1 : count;
    if (this.gone.length >= wanted) return;
    const each = TAKEN_OVER[kind] / MIB;
    this.expected += each * (to - from);
    if (Math.max(this.expected, each * hostBytes) >= WORTHWHILE) this.start(wanted);
  }

  /** Throws what ended a thread that should be there. */
  assertWell(): void {
    if (this.failure !== undefined) throw this.failure;
  }

  /**
   * Returns when no thread is left. They leave by themselves, at the end of the block they are at: one that is ended
   * from outside in the midst of native code takes the whole process with it.
   */
  async end(): Promise<void> {
    this.shared?.end();
    await Promise.all(this.gone);
  }

  /** There shall be so many. */
  private start(wanted: number): void {
    const { plans, work, count } = this.options;
    // So many blocks that no thread waits for the writer, or the writer for it, because of one that takes long.
    this.shared ??= Ring.of(2 * count + 2);
    const ring = this.shared;
    const job: CrewJob = { ring: ring.memory, plans, work, prepareCodecs: codecsNeedPreparing() };
    while (this.gone.length < wanted) {
      const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: job });
      worker.on('error', (error) => {
        this.failure ??= new ImgfsError('system', `a thread failed: ${String(error)}`, { cause: error });
      });
      const gone = new Promise<void>((resolve) => {
        worker.on('exit', () => {
          if (!ring.ended) this.failure ??= new ImgfsError('system', 'a thread ended early');
          resolve();
        });
      });
      this.gone.push(gone);
    }
  }
}
