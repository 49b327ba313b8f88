/** A data worker thread: opens its DataServer, then reads and answers requests until the mount is gone. */
import { parentPort, workerData } from 'node:worker_threads';
import { ImgfsError } from '../../lib/errors.js';
import type { DataServer } from '../adapter.js';
import { Complaints } from '../complaints.js';
import { DataDesk } from './data.js';
import { serve } from './loop.js';
import type { Begin, DataModule, FromWorker, WorkerStart } from './messages.js';
import { Polling, pollingHost } from './polling.js';

const port = parentPort!;
const start = workerData as WorkerStart;

const tell = (message: FromWorker): void => port.postMessage(message);
const log = (message: string): void => tell({ kind: 'log', message });

async function open(): Promise<DataServer> {
  const module = (await import(start.module)) as DataModule;
  return await module.openData(start.job);
}

function run(desk: DataDesk, begin: Begin): void {
  const host = start.isAlone ? pollingHost(begin.fd) : undefined;
  tell({ kind: 'serving' });
  serve({
    fd: begin.fd,
    desk,
    inHand: new Uint32Array(start.inHand),
    polling: host && new Polling(host),
    forward: (bytes) =>
      port.postMessage({ kind: 'request', bytes } satisfies FromWorker, [bytes.buffer as ArrayBuffer]),
    trace: start.trace ? log : undefined,
  });
  tell({ kind: 'ended' });
  // Whatever the DataServer left running must not keep the thread, and with it the process, alive.
  process.exit(0);
}

try {
  const desk = new DataDesk(await open(), new Complaints(log));
  port.once('message', (begin: Begin) => run(desk, begin));
  tell({ kind: 'opened' });
} catch (error) {
  // An ImgfsError would lose its class on the way to the main thread's error event; a bug goes that way.
  if (!(error instanceof ImgfsError)) throw error;
  tell({ kind: 'failed', error: error.toJSON() });
}
