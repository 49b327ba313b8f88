/**
 * The npm package fuse-native behind the adapter seam: libfuse 2 with everything on the main thread. What it cannot do,
 * and how far that was closed, is in native-notes/fuse-native.md.
 */
import { Buffer } from 'node:buffer';
import { ImgfsError } from '../../lib/errors.js';
import type { Adapter, MountRequest, Served, Session } from '../adapter.js';
import { deviceAt } from '../mountinfo.js';
import { fuseDevices } from './devices.js';
import { diagnose, requireDevice } from './diagnose.js';
import { handlers } from './handlers.js';
import { mountOptions, REQUEST_BYTES } from './options.js';
import { loadPackage, type Package } from './package.js';
import { NativeSession } from './session.js';
import { countThreads } from './threads.js';

/** The size of the buffer the addon copies the mountpoint into, without its terminator. */
const MOUNTPOINT_LIMIT = 1023;

/** The adapter. The package is loaded at the first call of `unavailable` or `attach`, not before. */
export const fuseNative: Adapter = {
  name: 'fuse-native',
  can: {
    seeksHoles: false,
    punchesHoles: false,
    requestBytes: REQUEST_BYTES,
    writebackCache: false,
    fileMountpoint: true,
    threads: false,
  },

  unavailable() {
    if (process.platform !== 'linux')
      return `imgfs mounts through fuse-native on Linux only, not on ${process.platform}`;
    try {
      loadPackage();
      return undefined;
    } catch (error) {
      if (error instanceof ImgfsError) return error.message;
      throw error;
    }
  },

  async attach(request, served) {
    if (Buffer.byteLength(request.mountpoint) > MOUNTPOINT_LIMIT) {
      throw new ImgfsError('limit', `the mountpoint's path is longer than ${MOUNTPOINT_LIMIT} bytes`, {
        hint: 'use a shorter one, or --adapter kernel',
      });
    }
    const fuse = loadPackage();
    requireDevice();
    return await mount(fuse, request, served);
  },
};

async function mount({ Translator, binding }: Package, request: MountRequest, served: Served): Promise<Session> {
  const { mountpoint } = request;
  const translator = new Translator(mountpoint, handlers(served, request), { timeout: false });
  const thread = Buffer.alloc(binding.sizeof_fuse_thread_t);
  translator._thread = thread;
  const initialised = new Promise<void>((resolve) => {
    translator._openCallback = () => resolve();
  });

  const before = fuseDevices();
  try {
    binding.fuse_native_mount(
      mountpoint,
      mountOptions(request),
      thread,
      translator,
      countThreads(translator, request.log),
      translator._handlers,
      translator._getImplementedArray(),
    );
  } catch {
    throw diagnose(request);
  }
  // Nothing else ran since `before`: the call above blocks.
  const [descriptor] = [...fuseDevices()].filter((number) => !before.has(number));
  if (descriptor === undefined) throw new ImgfsError('system', `${mountpoint} was unmounted at once`);
  const session = new NativeSession({
    mountpoint,
    descriptor,
    device: deviceAt(mountpoint),
    letGo: () => binding.fuse_native_unmount(mountpoint, thread),
  });
  const live = await Promise.race([initialised.then(() => true), session.ended.then(() => false)]);
  if (!live) throw new ImgfsError('system', `${mountpoint} was unmounted at once`);
  return session;
}
