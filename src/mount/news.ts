/**
 * How data workers learn of views that come while the mount lives. They are blocked in the device and hear nothing, so
 * they look for themselves when they meet a number they do not know.
 */
import { BroadcastChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Ino } from '../fuse/adapter.js';
import type { ViewSource } from '../tree/tree.js';

interface Item {
  readonly ino: Ino;
  /** Undefined when the view has gone. */
  readonly source: ViewSource | undefined;
}

/** The main thread's end. */
export class NewsSender {
  private readonly channel: BroadcastChannel;

  /** `name` is unique in this process. */
  constructor(readonly name: string) {
    this.channel = new BroadcastChannel(name);
    this.channel.unref();
  }

  send(ino: Ino, source: ViewSource | undefined): void {
    this.channel.postMessage({ ino, source } satisfies Item);
  }

  close(): void {
    this.channel.close();
  }
}

/** A worker's end: returns the function that puts what was sent since into `sources`, without waiting. */
export function receiveNews(name: string, sources: Map<Ino, ViewSource>): () => void {
  const channel = new BroadcastChannel(name);
  channel.unref();
  return () => {
    // Either kind of channel will do, whatever its type says.
    const port = channel as unknown as MessagePort;
    for (let next = receiveMessageOnPort(port); next !== undefined; next = receiveMessageOnPort(port)) {
      const { ino, source } = next.message as Item;
      if (source === undefined) sources.delete(ino);
      else sources.set(ino, source);
    }
  };
}
