/** The life of a mount in the process that serves it: open, attach, serve until the end, close. */
import { prepareCodecs } from '../codec/zstd.js';
import type { Adapter, Session } from '../fuse/adapter.js';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { libc } from '../lib/libc.js';
import { chooseAdapter } from './adapters.js';
import type { LentPassphrases } from './asking.js';
import { busyError } from './end.js';
import { type Mountpoint, prepareMountpoint } from './mountpoint.js';
import { ourMountAt } from './mounts.js';
import type { MountOptions } from './options.js';
import { type OpenedMount, openMount } from './prepare.js';
import { noteFailure, writeRecord } from './records.js';
import { StopSignals } from './signals.js';
import { endSoon, Uncaught } from './uncaught.js';

/** A second request to stop within this many milliseconds detaches the mount even if it is busy. */
const INSISTENCE = 10_000;

/** How often what was written is followed up, in milliseconds. */
const PUBLISH_EVERY = 1000;

export interface LifeParts {
  readonly options: MountOptions;
  /** Asked for encrypted images, and wiped when all are open. */
  readonly passphrases: LentPassphrases;
  /** Where this process's output goes, for the record; undefined on a terminal. */
  readonly logFile?: string;
  /** Called once, when the mount answers. Warnings are about the opening. */
  readonly ready: (warnings: readonly string[]) => void;
  /** One line of text each, without line break. */
  readonly log: (line: string) => void;
}

/** A mount that answers. */
interface Attached {
  readonly session: Session;
  readonly mountpoint: Mountpoint;
  readonly adapter: Adapter;
}

/**
 * Mounts and serves until the mount is gone: by `umount`, by `imgfs umount`, or by SIGINT, SIGTERM or SIGHUP to this
 * process. Then everything is closed and released. Throws ImgfsError when it could not be mounted, or broke down.
 */
export async function live(parts: LifeParts): Promise<void> {
  const warnings: string[] = [];
  await prepareCodecs();
  const opened = openAll(parts, (message) => warnings.push(message));
  // The threads that serve inherit it. In the background the process began with it.
  if (opened.writable) libc()?.becomeFlusher();
  // Until here a signal ends the process as it ends any other; from here on there may be a mount to take away.
  const signals = new StopSignals();
  try {
    const attached = await attach(parts, opened, warnings);
    await serve(parts, opened, attached, signals, warnings);
  } finally {
    signals.close();
    close(opened);
  }
}

function openAll({ options, passphrases }: LifeParts, warn: (message: string) => void): OpenedMount {
  try {
    return openMount(options, passphrases, warn);
  } finally {
    passphrases.wipe();
  }
}

/** What cannot be written out any more is told to whoever waits for this process with `imgfs umount`, too. */
function close(opened: OpenedMount): void {
  try {
    opened.close();
  } catch (error) {
    if (error instanceof ImgfsError) noteFailure(error.toJSON());
    throw error;
  }
}

async function attach(parts: LifeParts, opened: OpenedMount, warnings: string[]): Promise<Attached> {
  const { options } = parts;
  const adapter = await chooseAdapter(options.adapter, (message) => warnings.push(message));
  const mountpoint = await prepareMountpoint(options.mountpoint, {
    files: opened.images.flatMap((one) => one.chain.map((file) => file.path)),
    allowNonEmpty: options.nonEmpty,
  });
  if (mountpoint.kind === 'file' && !adapter.can.fileMountpoint) {
    throw new ImgfsError('unsupported', `the ${adapter.name} adapter cannot mount on a file`, {
      hint: 'mount on a directory',
    });
  }
  if (options.writebackCache && !adapter.can.writebackCache) {
    throw new ImgfsError('unsupported', `the ${adapter.name} adapter has no writeback cache`, {
      hint: 'leave out -o writeback_cache',
    });
  }
  const session = await adapter.attach(
    {
      mountpoint: mountpoint.path,
      mountpointKind: mountpoint.kind,
      source: opened.named.map(({ path }) => path).join(' '),
      allowOther: options.allowOther ?? process.getuid?.() === 0,
      readOnly: !opened.writable,
      writebackCache: options.writebackCache,
      trace: options.trace,
      log: parts.log,
    },
    opened.serve(mountpoint.kind),
  );
  return { session, mountpoint, adapter };
}

/** Returns when the mount has ended. Whatever fails meanwhile, no mount is left that nobody serves. */
async function serve(
  parts: LifeParts,
  opened: OpenedMount,
  attached: Attached,
  signals: StopSignals,
  warnings: readonly string[],
): Promise<void> {
  const { session, mountpoint } = attached;
  const uncaught = new Uncaught();
  let forget: (() => void) | undefined;
  const stopPublishing = startPublishing(opened, parts.log);
  try {
    if (signals.seen !== undefined)
      throw new ImgfsError('busy', `stopped by ${signals.seen} before the mount was live`);
    forget = record(parts, opened, attached);
    signals.listen(asksToEnd(session, mountpoint, parts.log));
    parts.ready(warnings);
    await Promise.race([session.ended, uncaught.happened]).catch((error: unknown) => {
      if (opened.writable) giveUp(opened);
      throw error;
    });
  } catch (error) {
    await session.unmount({ lazy: true }).catch((why: unknown) => {
      if (ourMountAt(mountpoint.path) !== undefined) parts.log(errorLine(why));
    });
    throw error;
  } finally {
    stopPublishing();
    uncaught.close();
    forget?.();
  }
}

/** Other threads may wait for ever for a lock that the dead one held: the process goes, as if it had been killed. */
function giveUp(opened: OpenedMount): void {
  opened.abandon();
  process.exitCode = 1;
  endSoon();
}

/** Keeps up with what was written, once a second; a failure is told once, and again by whoever writes or flushes. */
function startPublishing(opened: OpenedMount, log: (line: string) => void): () => void {
  if (!opened.writable) return () => {};
  const timer = setInterval(() => {
    try {
      opened.publish();
    } catch (error) {
      clearInterval(timer);
      log(errorLine(error));
    }
  }, PUBLISH_EVERY).unref();
  return () => clearInterval(timer);
}

function record(parts: LifeParts, opened: OpenedMount, { mountpoint, adapter }: Attached): () => void {
  return writeRecord({
    mountpoint: mountpoint.path,
    device: ourMountAt(mountpoint.path)?.device ?? '',
    images: opened.named.map(({ path }) => path),
    adapter: adapter.name,
    readOnly: !opened.writable,
    overlay: parts.options.overlay !== undefined,
    ...(parts.logFile === undefined ? {} : { log: parts.logFile }),
  });
}

/** What a signal does: the first asks, and a busy mount goes on; asking again soon insists. */
function asksToEnd(session: Session, mountpoint: Mountpoint, log: (line: string) => void): () => Promise<void> {
  let asked = Number.NEGATIVE_INFINITY;
  return async () => {
    const lazy = performance.now() - asked < INSISTENCE;
    asked = performance.now();
    try {
      await session.unmount({ lazy });
    } catch (error) {
      const busy = error instanceof ImgfsError && error.reason === 'busy';
      log(errorLine(busy ? busyError(mountpoint.path, mountpoint.path) : error));
      if (busy) log('imgfs: or signal again to detach it all the same');
    }
  };
}
