import { errorLine, ImgfsError, type Reason } from '../../src/lib/errors.js';

/** How an action ended: `done`, or the reason of its ImgfsError. Anything else thrown is a bug and passes through. */
export function outcome(action: () => void): Reason | 'done' {
  return failure(action)?.reason ?? 'done';
}

/** The ImgfsError an action throws, which a user must see as one line; undefined when it throws none. */
export function failure(action: () => void): ImgfsError | undefined {
  try {
    action();
  } catch (error) {
    if (!(error instanceof ImgfsError)) throw error;
    if (!/^[^\p{Cc}]+$/u.test(errorLine(error))) throw new Error(`not one clean line: ${error.message}`);
    return error;
  }
  return undefined;
}
