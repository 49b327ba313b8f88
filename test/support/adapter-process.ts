/**
 * Serves the tree of served.ts in a process of its own: whoever looks at a mount must not be the one that serves it.
 * Arguments: the module of the adapter, the name it exports it by, and the job as JSON. Ends when the mount does.
 */
import type { Adapter, MountRequest } from '../../src/fuse/adapter.js';
import { errorLine, ImgfsError } from '../../src/lib/errors.js';
import * as tree from './served.js';

/** What the test asks for; the rest of the request has defaults. */
export interface Job extends Partial<Omit<MountRequest, 'log'>> {
  readonly mountpoint: string;
  readonly mode?: number;
  /** URL of a module that exports another `fakeServed`; the tree of served.ts by default. */
  readonly served?: string;
}

/** What the process tells the test. */
export type Told =
  | { readonly ready: true }
  | { readonly log: string }
  | { readonly failed: string; readonly reason?: string }
  | { readonly unmounted: string };

const tell = (told: Told): void => {
  process.send?.(told);
};

const describe = (error: unknown): { failed: string; reason?: string } =>
  error instanceof ImgfsError ? { failed: errorLine(error), reason: error.reason } : { failed: String(error) };

async function main(module: string, name: string, job: Job): Promise<void> {
  const adapter = ((await import(module)) as Record<string, Adapter>)[name];
  if (adapter === undefined) throw new Error(`${module} has no ${name}`);
  const { fakeServed } = job.served === undefined ? tree : ((await import(job.served)) as typeof tree);
  const mountpointKind = job.mountpointKind ?? 'directory';
  const session = await adapter.attach(
    {
      mountpointKind,
      source: 'disk.qcow2',
      allowOther: false,
      readOnly: false,
      writebackCache: false,
      trace: false,
      ...job,
      log: (message) => tell({ log: message }),
    },
    fakeServed(mountpointKind, job.mode),
  );
  process.on('message', async (lazy: boolean) => {
    const outcome = await session.unmount({ lazy }).then(
      () => 'ok',
      (error: unknown) => describe(error).reason ?? String(error),
    );
    tell({ unmounted: outcome });
  });
  // The channel to the test must not be what keeps this process alive.
  process.channel?.unref();
  tell({ ready: true });
  await session.ended;
}

const [module, name, job] = process.argv.slice(2);
main(module!, name!, JSON.parse(job!) as Job).catch((error: unknown) => {
  tell(describe(error));
  process.exitCode = 1;
});
