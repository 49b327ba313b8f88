/** The changing half of both servers for a tree that never changes: every request is `read-only`. */
import { ImgfsError } from '../lib/errors.js';
import type { DataServer, NameServer } from './adapter.js';

const refuse = (): never => {
  throw new ImgfsError('read-only', 'nothing here can be changed');
};

export const readOnlyNames: Pick<NameServer, 'resize' | 'create' | 'remove' | 'rename' | 'setExtended'> = {
  resize: refuse,
  create: refuse,
  remove: refuse,
  rename: refuse,
  setExtended: refuse,
};

/** Nothing is ever written, so everything is durable. */
export const readOnlyData: Pick<DataServer, 'write' | 'zero' | 'flush' | 'verify'> = {
  write: refuse,
  zero: refuse,
  flush() {},
  verify() {},
};
