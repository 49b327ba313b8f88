/** Buffers of whole disks, given back before they cost more than they are. */
import v8 from 'node:v8';
import vm from 'node:vm';

/** Bytes that are let lie. */
const LITTLE = 32 * 1024 * 1024;

// Only for a moment: what was compiled ahead is of use under the flags it was compiled under.
v8.setFlagsFromString('--expose-gc');
const collect = vm.runInNewContext('gc') as () => void;
v8.setFlagsFromString('--no-expose-gc');

let settled = process.memoryUsage.rss();

/**
 * To be called before a process is started: the kernel copies the tables of all memory this one has, for which it takes
 * 90 ms with 800 MB, and 4 ms with little. V8 is in no hurry to collect buffers.
 */
export function tidy(): void {
  const held = process.memoryUsage.rss();
  settled = Math.min(settled, held);
  if (held < settled + LITTLE) return;
  collect();
  settled = process.memoryUsage.rss();
}
