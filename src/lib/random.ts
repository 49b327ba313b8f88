import crypto from 'node:crypto';

/**
 * `count` bytes nobody can guess. As a function of our own it can be handed on without node's cryptography being loaded,
 * which takes longer than opening an image (src/start.cts).
 */
export function randomBytes(count: number): Buffer {
  return crypto.randomBytes(count);
}
