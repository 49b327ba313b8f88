/** The one serving loop, run by every data worker on the descriptor they share. */
import { constants } from 'node:os';
import { alignedBuffer } from '../../lib/aligned.js';
import { PAYLOAD_AT } from './change-layout.js';
import { type DataDesk, isData } from './data.js';
import { ENDED, receive, send } from './device.js';
import {
  bodyFits,
  inodeOf,
  lengthOf,
  opcodeOf,
  putHeader,
  REPLY_HEADER,
  REQUEST_BYTES,
  REQUEST_HEADER,
  uniqueHigh,
  uniqueLow,
} from './layout.js';
import { OPCODE } from './opcodes.js';
import type { Polling } from './polling.js';
import { traceLine } from './trace.js';

export interface Loop {
  readonly fd: number;
  readonly desk: DataDesk;
  /**
   * Two words of shared memory with the `unique` of the request in hand, 0 for none: should this thread die, the
   * main thread fails that request, which would otherwise hang its caller for ever.
   */
  readonly inHand: Uint32Array;
  /** Undefined where there is nothing to be gained by it. */
  readonly polling: Polling | undefined;
  /** Takes over a request this thread does not answer; the bytes are a copy, the reply is the taker's. */
  readonly forward: (request: Uint8Array) => void;
  readonly trace: ((line: string) => void) | undefined;
}

/** The main thread has the request now. */
export const FORWARDED = -1;

/** Opcodes that are never replied to. Inode numbers live as long as the mount, so there is nothing to forget. */
export function isSilent(opcode: number): boolean {
  return opcode === OPCODE.FORGET || opcode === OPCODE.BATCH_FORGET || opcode === OPCODE.NOTIFY_REPLY;
}

/** Serves until the mount is gone. Throws only when the device itself is broken, never because of a request. */
export function serve(loop: Loop): void {
  const { fd, desk, inHand, polling, trace } = loop;
  // What is written begins on a block boundary, so that it can go past the host's page cache as it is.
  const request = alignedBuffer(REQUEST_BYTES, PAYLOAD_AT);
  let moved = 0;
  for (;;) {
    polling?.wait(moved);
    const length = receive(fd, request);
    polling?.received();
    if (length === ENDED) return;
    if (length < REQUEST_HEADER) continue;
    inHand[0] = uniqueLow(request);
    inHand[1] = uniqueHigh(request);
    const replied = dispatch(loop, request, length);
    moved = length + replied;
    if (replied > 0) send(fd, desk.reply, replied);
    if (replied >= 0 && trace !== undefined) trace(traceLine(request.subarray(0, length), desk.reply, replied));
  }
}

/**
 * Answers or passes on the `length` bytes (at least a header) in `request`. Returns the length of the reply that is
 * ready in the desk, 0 where none is due, or FORWARDED. Never throws.
 */
export function dispatch(loop: Omit<Loop, 'fd' | 'polling'>, request: Buffer, length: number): number {
  const { desk, inHand } = loop;
  const opcode = opcodeOf(request);
  const whole = lengthOf(request) === length && bodyFits(opcode, length);
  if (whole && isData(opcode) && desk.data.serves(inodeOf(request))) return desk.answer(request);
  if (isSilent(opcode)) return 0;
  if (opcode === OPCODE.INTERRUPT) {
    // ENOSYS once, and the kernel sends no more of them: a synchronous read cannot be stopped half way.
    putHeader(desk.reply, request, REPLY_HEADER, constants.errno.ENOSYS);
    return REPLY_HEADER;
  }
  inHand[0] = 0;
  inHand[1] = 0;
  loop.forward(new Uint8Array(request.subarray(0, length)));
  return FORWARDED;
}
