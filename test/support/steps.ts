/** Takes at most so many steps of a work and then wants no more of it. True where that was all there is. */
export function leftAfter(count: number, steps: Iterable<unknown>, afterEach: () => void = () => {}): boolean {
  let taken = 0;
  for (const _ of steps) {
    afterEach();
    taken++;
    if (taken === count) return false;
  }
  return true;
}
