/** Takes all steps of a work at once, for those who have nothing else to do meanwhile. `told` hears what each says. */
export function drained<T>(steps: Generator<number, T, void>, told?: (part: number) => void): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    told?.(step.value);
  }
}
