/** One data worker thread, seen from the main thread. */
import { Worker } from 'node:worker_threads';
import { ImgfsError } from '../../lib/errors.js';
import type { WorkerPlan } from '../adapter.js';
import type { Begin, FromWorker, WorkerStart } from './messages.js';

const IN_HAND_BYTES = 8;

export interface MemberOptions {
  readonly plan: WorkerPlan;
  readonly trace: boolean;
  readonly log: (message: string) => void;
  /** Answers what the worker passed on. */
  readonly take: (request: Buffer) => void;
}

/** Starts a thread when constructed. */
export class Member {
  /** The `unique` of the request it is answering, low word first; both 0 for none. Shared with the thread. */
  readonly inHand: Uint32Array;
  /** It has its DataServer; rejects with what `openData` threw. */
  readonly opened: Promise<void>;
  /** It is about to read requests. */
  readonly serving: Promise<void>;
  /** When the thread is no more: undefined if it saw the end of the mount, else why it died. Never rejects. */
  readonly gone: Promise<unknown>;
  private readonly worker: Worker;
  private readonly reached = new Map<FromWorker['kind'], () => void>();
  private ended = false;
  private why: unknown;

  constructor(private readonly options: MemberOptions) {
    const inHand = new SharedArrayBuffer(IN_HAND_BYTES);
    this.inHand = new Uint32Array(inHand);
    const { module, job, count } = options.plan;
    this.worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { module, job, isAlone: count === 1, trace: options.trace, inHand } satisfies WorkerStart,
    });
    this.worker.on('message', (message: FromWorker) => this.hear(message));
    this.worker.on('error', (error) => {
      this.why ??= error;
    });
    this.gone = new Promise((resolve) => {
      this.worker.once('exit', (code) => {
        resolve(this.ended ? undefined : (this.why ?? new Error(`its thread ended with ${code}`)));
      });
    });
    this.opened = this.reach('opened');
    this.serving = this.reach('serving');
  }

  begin(fd: number): void {
    this.worker.postMessage({ fd } satisfies Begin);
  }

  /** Ends a thread that has not begun: one that has is blocked in the device, where this would wait for ever. */
  async dismiss(): Promise<void> {
    await this.worker.terminate();
  }

  private reach(kind: FromWorker['kind']): Promise<void> {
    const reached = new Promise<void>((resolve, reject) => {
      this.reached.set(kind, resolve);
      void this.gone.then((why) => reject(why ?? new Error('it ended early')));
    });
    // Not everybody waits for every stage.
    reached.catch(() => undefined);
    return reached;
  }

  private hear(message: FromWorker): void {
    switch (message.kind) {
      case 'opened':
      case 'serving':
        this.reached.get(message.kind)?.();
        break;
      case 'failed':
        this.why = ImgfsError.fromJSON(message.error);
        break;
      case 'ended':
        this.ended = true;
        break;
      case 'request':
        this.options.take(Buffer.from(message.bytes.buffer, message.bytes.byteOffset, message.bytes.byteLength));
        break;
      case 'log':
        this.options.log(message.message);
        break;
    }
  }
}
