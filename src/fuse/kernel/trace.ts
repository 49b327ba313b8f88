/** One line per request, for `request.trace`. Off the hot path: only called when tracing. */
import { constants } from 'node:os';
import { createdNameOf, fallocateOf } from './change-layout.js';
import {
  bodyFits,
  errnoOfReply,
  inodeOf,
  nameOf,
  offsetOf,
  opcodeOf,
  REPLY_HEADER,
  seekWant,
  sizeOf,
} from './layout.js';
import { OPCODE, opcodeName } from './opcodes.js';

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, value]) => [value, name]));

/** Says what was asked (`request` is exactly one request) and how it was answered in `reply`, `length` bytes. */
export function traceLine(request: Buffer, reply: Buffer, length: number): string {
  const asked = `${opcodeName(opcodeOf(request))} ino ${inodeOf(request)}${detail(request)}`;
  if (length === 0) return asked;
  const errno = errnoOfReply(reply);
  return `${asked}: ${errno === 0 ? `${length - REPLY_HEADER} bytes` : (ERRNO_NAMES.get(errno) ?? `errno ${errno}`)}`;
}

function detail(request: Buffer): string {
  const opcode = opcodeOf(request);
  if (!bodyFits(opcode, request.length)) return ' (cut short)';
  switch (opcode) {
    case OPCODE.LOOKUP:
      return ` ${JSON.stringify(nameOf(request) ?? '')}`;
    case OPCODE.READ:
    case OPCODE.WRITE:
    case OPCODE.READDIR:
      return ` at ${offsetOf(request)} size ${sizeOf(request)}`;
    case OPCODE.UNLINK:
      return ` ${JSON.stringify(nameOf(request) ?? '')}`;
    case OPCODE.CREATE:
      return ` ${JSON.stringify(createdNameOf(request) ?? '')}`;
    case OPCODE.FALLOCATE:
      return fallocateText(request);
    case OPCODE.LSEEK:
      return ` at ${offsetOf(request)} to ${seekWant(request) ?? 'other'}`;
    default:
      return '';
  }
}

function fallocateText(request: Buffer): string {
  const { at, length, what } = fallocateOf(request);
  return ` ${what ?? 'other'} at ${at} size ${length}`;
}
