/** What a workload does to an image: the alphabet of the crash, fault and model runners. */
import { pack } from '../../src/codec/pack.js';
import type { Image, Preallocation } from '../../src/image/image.js';

export type Operation =
  /**
   * `zeros` writes zeros instead of bytes that tell which operation wrote them. `packed` stores whole units packed, where
   * the image can.
   */
  | {
      readonly do: 'write';
      readonly at: number;
      readonly length: number;
      readonly zeros?: boolean;
      readonly packed?: boolean;
    }
  /** Zeros that keep their space, and zeros that may give it back. */
  | { readonly do: 'zero'; readonly at: number; readonly length: number }
  | { readonly do: 'discard'; readonly at: number; readonly length: number }
  | { readonly do: 'flush' }
  | { readonly do: 'publish' }
  | { readonly do: 'resize'; readonly size: number; readonly preallocation?: Preallocation }
  | { readonly do: 'snapshot'; readonly name: string }
  | { readonly do: 'delete'; readonly name: string }
  | { readonly do: 'apply'; readonly name: string }
  | { readonly do: 'rename'; readonly name: string; readonly to: string }
  | { readonly do: 'reopen' };

/** What is done to an open image. */
export type Action = Exclude<Operation, { readonly do: 'reopen' }>;

export const SECTOR = 512;

const WORD = 8;

/**
 * The bytes that operation `stamp` writes at guest offset `at`: words of (stamp, guest position), so that every sector
 * of every write differs from all others, and one that went astray tells where it belongs.
 */
export function stamped(stamp: number, at: number, length: number): Uint8Array {
  const first = Math.floor(at / WORD);
  const words = Math.ceil((at + length) / WORD) - first;
  const bytes = new Uint8Array(words * WORD);
  const view = new Uint32Array(bytes.buffer);
  for (let n = 0; n < words; n++) {
    view[n * 2] = stamp;
    view[n * 2 + 1] = first + n;
  }
  return bytes.subarray(at - first * WORD, at - first * WORD + length);
}

/** What a write stores; nothing for other operations. */
export function bytesOf(operation: Operation, stamp: number): Uint8Array {
  if (operation.do !== 'write') return new Uint8Array();
  const { at, length, zeros } = operation;
  return zeros === true ? new Uint8Array(length) : stamped(stamp, at, length);
}

/** Does it. `reopen` is the caller's business. Snapshots are found by name. */
export function perform(image: Image, operation: Action, stamp: number): void {
  switch (operation.do) {
    case 'write':
      if (operation.packed === true) writePacked(image, bytesOf(operation, stamp), operation.at);
      else image.write(bytesOf(operation, stamp), operation.at);
      break;
    case 'zero':
      image.zero(operation.at, operation.length, { unmap: false });
      break;
    case 'discard':
      image.zero(operation.at, operation.length, { unmap: true });
      break;
    case 'flush':
      image.flush();
      break;
    case 'publish':
      image.publish();
      break;
    case 'resize':
      image.resize(operation.size, operation.preallocation);
      break;
    case 'snapshot':
      image.createSnapshot(Buffer.from(operation.name));
      break;
    case 'delete':
      image.deleteSnapshot(idOf(image, operation.name));
      break;
    case 'apply':
      image.applySnapshot(idOf(image, operation.name));
      break;
    case 'rename':
      image.renameSnapshot(idOf(image, operation.name), Buffer.from(operation.to));
      break;
  }
}

/** Units that lie wholly in the range go packed where that makes them smaller, the rest as it is. */
export function writePacked(image: Image, bytes: Uint8Array, at: number): void {
  const { packing, size } = image;
  const unit = packing?.unit ?? bytes.length;
  for (let done = 0; done < bytes.length; ) {
    const here = at + done;
    const end = Math.min(here - (here % unit) + unit, size);
    const part = bytes.subarray(done, Math.min(bytes.length, end - at));
    done += part.length;
    const whole = here % unit === 0 && here + part.length === end;
    const packed = whole && packing !== undefined ? pack(packing.method, padded(part, unit)) : undefined;
    if (packed === undefined) image.write(part, here);
    else image.writePacked(packed, here);
  }
}

function padded(part: Uint8Array, unit: number): Uint8Array {
  if (part.length === unit) return part;
  const whole = new Uint8Array(unit);
  whole.set(part);
  return whole;
}

/** In a line of a report: `write 4096+512`. */
export function describeOperation(operation: Operation): string {
  switch (operation.do) {
    case 'write':
      return `${operation.packed === true ? 'pack' : 'write'} ${operation.at}+${operation.length}`;
    case 'zero':
    case 'discard':
      return `${operation.do} ${operation.at}+${operation.length}`;
    case 'resize':
      return ['resize', operation.size, operation.preallocation].join(' ').trimEnd();
    case 'rename':
      return `rename ${operation.name} ${operation.to}`;
    case 'snapshot':
    case 'delete':
    case 'apply':
      return `${operation.do} ${operation.name}`;
    default:
      return operation.do;
  }
}

function idOf(image: Image, name: string): string {
  const found = image.snapshots().find((snapshot) => snapshot.name === name);
  if (found === undefined) throw new Error(`no snapshot is called ${name}`);
  return found.id;
}
