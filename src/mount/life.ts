/** The life of a mount in the process that serves it: open, attach, serve until the end, close. */
import { prepareCodecs } from '../codec/zstd.js';
import type { Adapter, Session } from '../fuse/adapter.js';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { chooseAdapter } from './adapters.js';
import { type Mountpoint, prepareMountpoint } from './mountpoint.js';
import type { MountOptions } from './options.js';
import { type OpenedMount, openMount } from './prepare.js';
import { writeRecord } from './records.js';

/** A second request to stop within this many milliseconds detaches the mount even if it is busy. */
const INSISTENCE = 10_000;

export interface LifeParts {
  readonly options: MountOptions;
  /** Where this process's output goes, for the record; undefined on a terminal. */
  readonly logFile?: string;
  /** Called once, when the mount answers. Warnings are about the opening. */
  readonly ready: (warnings: readonly string[]) => void;
  /** One line of text each, without line break. */
  readonly log: (line: string) => void;
}

/**
 * Mounts and serves until the mount is gone: by `umount`, by `imgfs umount`, or by SIGINT, SIGTERM or SIGHUP to this
 * process. Then everything is closed and released. Throws ImgfsError when it could not be mounted, or broke down.
 */
export async function live(parts: LifeParts): Promise<void> {
  const { options } = parts;
  const warnings: string[] = [];
  if (options.access === 'rw') {
    throw new ImgfsError('unsupported', `${options.images.join(', ')} cannot be mounted read-write`, {
      hint: 'this version only reads: leave out -o rw',
    });
  }
  await prepareCodecs();
  const opened = openMount(options, (message) => warnings.push(message));
  try {
    const { session, mountpoint, adapter } = await attach(parts, opened, warnings);
    const forget = writeRecord({
      mountpoint: mountpoint.path,
      images: opened.images.map((one) => one.file.path),
      adapter: adapter.name,
      readOnly: true,
      ...(parts.logFile === undefined ? {} : { log: parts.logFile }),
    });
    const stopListening = endOnSignals(session, parts.log);
    try {
      parts.ready(warnings);
      await session.ended;
    } finally {
      stopListening();
      forget();
    }
  } finally {
    opened.close();
  }
}

async function attach(
  parts: LifeParts,
  opened: OpenedMount,
  warnings: string[],
): Promise<{ session: Session; mountpoint: Mountpoint; adapter: Adapter }> {
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
  const session = await adapter.attach(
    {
      mountpoint: mountpoint.path,
      mountpointKind: mountpoint.kind,
      source: opened.images.map((one) => one.file.path).join(' '),
      allowOther: options.allowOther ?? process.getuid?.() === 0,
      readOnly: true,
      writebackCache: false,
      trace: options.trace,
      log: parts.log,
    },
    opened.serve(mountpoint.kind),
  );
  return { session, mountpoint, adapter };
}

/** The first signal asks, and a busy mount goes on; asking again soon insists. Returns what undoes it. */
function endOnSignals(session: Session, log: (line: string) => void): () => void {
  let asked = Number.NEGATIVE_INFINITY;
  const end = async (): Promise<void> => {
    const lazy = performance.now() - asked < INSISTENCE;
    asked = performance.now();
    try {
      await session.unmount({ lazy });
    } catch (error) {
      log(errorLine(error));
      if (error instanceof ImgfsError && error.reason === 'busy') log('imgfs: signal again to detach it all the same');
    }
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const listener = (): void => void end();
  for (const signal of signals) process.on(signal, listener);
  return () => {
    for (const signal of signals) process.off(signal, listener);
  };
}
