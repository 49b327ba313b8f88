/** How far a check has come, in tables looked at. A snapshot's L1 table is taken to be as long as the active one. */
export class Steps {
  private done = 0;

  constructor(private readonly total: number) {}

  /** From 0 to 1. */
  get part(): number {
    return Math.min(1, this.done / this.total);
  }

  step(): void {
    this.done++;
  }
}
