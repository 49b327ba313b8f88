/** What a data worker and the main thread say to each other. */
import type { ErrorRecord } from '../../lib/errors.js';
import type { DataServer } from '../adapter.js';

/** The worker's `workerData`. */
export interface WorkerStart {
  readonly module: string;
  readonly job: unknown;
  readonly trace: boolean;
  /** Eight bytes of shared memory: see `Loop.inHand`. */
  readonly inHand: SharedArrayBuffer;
  /** The mount has no other worker. */
  readonly isAlone: boolean;
}

/** The only message a worker ever gets; from then on it hears nothing, being blocked in the device. */
export interface Begin {
  readonly fd: number;
}

export type FromWorker =
  /** It has its DataServer and waits for Begin. */
  | { readonly kind: 'opened' }
  /** It could not open, and ends. */
  | { readonly kind: 'failed'; readonly error: ErrorRecord }
  /** It is about to read its first request. */
  | { readonly kind: 'serving' }
  /** The mount is gone, and the worker ends. */
  | { readonly kind: 'ended' }
  /** A request for the main thread, bytes owned by the receiver. */
  | { readonly kind: 'request'; readonly bytes: Uint8Array }
  | { readonly kind: 'log'; readonly message: string };

/** What `WorkerPlan.module` exports. */
export interface DataModule {
  readonly openData: (job: unknown) => DataServer | Promise<DataServer>;
}
