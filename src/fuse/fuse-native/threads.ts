import type { Translator } from './package.js';

/** From here on a request takes about twice as long as it should (measured; native-notes/fuse-native.md). */
const MANY = 2000;

/**
 * The addon asks JavaScript for memory once per libfuse thread and never gives it back, and each wake-up of the event
 * loop walks through all it ever asked for. libfuse keeps at most eleven idle threads, so programs with more requests
 * under way than that make it start and end threads all the time. This can only be counted and told, once.
 */
export function countThreads(translator: Translator, log: (message: string) => void): (size: number) => Buffer {
  let threads = 0;
  return (size) => {
    threads += 1;
    if (threads === MANY) {
      log('fuse-native gets slower as programs keep many requests under way: mount anew, or with --adapter kernel');
    }
    return translator._malloc(size);
  };
}
