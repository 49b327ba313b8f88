import { availableParallelism } from 'node:os';
import { libc } from '../../lib/libc.js';

/** Microseconds that are waited awake at most: a little more than a caller needs that was woken and asks again at once. */
const LONGEST = 100;
/** A request that came within so many microseconds had been sent before we looked. */
const AT_ONCE = 12;
/** One that had not outweighs so many that had. */
const GAP = 4;
/** So many more that had than gaps: there is a crowd of callers, and waiting awake is only in their way. */
const CROWD = 8;

/** Bytes moved for a request after which its caller is busy with them for longer than it takes to wake. */
const LARGE = 256 * 1024;

/** What `Polling` asks of the machine, in microseconds. */
export interface PollingHost {
  /** Whether a request is there to be read. */
  readonly ready: () => boolean;
  readonly now: () => number;
}

/** Undefined where nothing is gained: on one processor the caller could not run meanwhile. */
export function pollingHost(fd: number): PollingHost | undefined {
  const system = libc();
  if (system === undefined || availableParallelism() < 2) return undefined;
  return { ready: () => system.isReadable(fd), now: () => performance.now() * 1000 };
}

/**
 * Waits for a request awake, before the thread goes to sleep in the device. A processor that idles takes tens of
 * microseconds to wake, longer than most requests take to be answered, and a caller with one request at a time waits
 * for that every time. As in QEMU's event loop this is done only while requests come soon enough for it to pay. Not for
 * one thread of several: the kernel wakes those that sleep, whoever takes the request.
 */
export class Polling {
  private pays = false;
  private crowd = 0;
  private since = 0;
  /** How long the last wait was, where it was awake. */
  private awake: number | undefined;

  constructor(private readonly host: PollingHost) {}

  /**
   * Returns when a request is there, or when it is time to sleep. To be called when the last one is answered, for which
   * so many bytes went through the device.
   */
  wait(moved: number): void {
    const { host } = this;
    this.since = host.now();
    this.awake = undefined;
    if (!this.pays || this.crowd >= CROWD || moved >= LARGE) return;
    for (let waited = 0; waited < LONGEST; waited = host.now() - this.since) {
      if (!host.ready()) continue;
      this.awake = waited;
      return;
    }
  }

  /** To be called when a request has been received after `wait`. */
  received(): void {
    const waited = this.awake ?? this.host.now() - this.since;
    const crowd = this.crowd + (waited < AT_ONCE ? 1 : -GAP);
    this.crowd = Math.min(Math.max(crowd, 0), 2 * CROWD);
    this.pays = waited < LONGEST;
  }
}
