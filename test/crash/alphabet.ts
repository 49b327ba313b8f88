/** Operations in the units of a format, and the mix of them that every format must bear. */
import type { Preallocation } from '../../src/image/image.js';
import type { Operation } from './operations.js';

const FLUSH: Operation = { do: 'flush' };
const REOPEN: Operation = { do: 'reopen' };

/** Operations in units of the format: `w(1.5, 2)` writes two units from the middle of unit 1 on. */
export function alphabet(unit: number) {
  const range = (at: number, length: number) => ({ at: Math.floor(at * unit), length: Math.ceil(length * unit) });
  return {
    w: (at: number, length: number): Operation => ({ do: 'write', ...range(at, length) }),
    /** Whole units packed. */
    c: (at: number, length: number): Operation => ({ do: 'write', packed: true, ...range(at, length) }),
    z: (at: number, length: number): Operation => ({ do: 'zero', ...range(at, length) }),
    d: (at: number, length: number): Operation => ({ do: 'discard', ...range(at, length) }),
    s: (size: number): Operation => ({ do: 'resize', size: size * unit }),
    p: (size: number, preallocation: Preallocation): Operation => ({ do: 'resize', size: size * unit, preallocation }),
  };
}

/** The same `count` units (8 or more, even) written, zeroed and discarded in every state they can be in. */
export function everything(unit: number, count = 16): readonly Operation[] {
  const { w, z, d } = alphabet(unit);
  const half = count / 2;
  return [
    w(0.25, 0.5),
    w(half + 0.5, 2),
    FLUSH,
    w(half + 0.25, 0.125),
    z(0, 2),
    w(half - 3.5, 1),
    FLUSH,
    d(half, 1.5),
    w(half + 2, 1.5),
    w(1, 0.25),
    FLUSH,
    z(count - 2.5, 1),
    d(0, count),
    w(half - 1.75, 0.5),
    w(half + 0.75, 0.5),
    REOPEN,
    w(2, 1),
    w(count - 1.5, 0.5),
  ];
}
