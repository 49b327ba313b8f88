/** Takes all steps of a work at once, for those who have nothing else to do meanwhile. `told` hears what each says. */
export function drained<T>(steps: Generator<number, T, void>, told?: (part: number) => void): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    told?.(step.value);
  }
}

/** Passes on steps, each once `told` has heard of it, and what they end with. Whoever wants no more of them ends the work. */
export function* heard<T>(
  steps: Generator<number, T, void>,
  told?: (part: number) => void,
): Generator<number, T, void> {
  const work: Iterator<number, T, void> = steps;
  try {
    for (;;) {
      const step = work.next();
      if (step.done === true) return step.value;
      told?.(step.value);
      yield step.value;
    }
  } finally {
    work.return?.();
  }
}
