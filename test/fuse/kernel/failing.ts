/** A tree whose data workers cannot open it. */
import type { Served } from '../../../src/fuse/adapter.js';
import { ImgfsError } from '../../../src/lib/errors.js';
import { fakeServed as plain } from '../../support/served.js';

export function fakeServed(): Served {
  return { ...plain('directory'), workers: { module: import.meta.url, job: undefined, count: 3 } };
}

export function openData(): Served['data'] {
  throw new ImgfsError('locked', 'the image is in use');
}
