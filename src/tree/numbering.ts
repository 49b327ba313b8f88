/**
 * Inode numbers that stay: a node has the number it had in the tree before, and no number is used twice, not even for
 * what comes back after it was gone.
 */
export class Numbering {
  private known = new Map<string, number>();
  private used = new Map<string, number>();
  private last = 0;

  /** The number of the node with this key, which is unique in its tree. */
  of(key: string): number {
    let number = this.known.get(key);
    if (number === undefined) {
      this.last += 1;
      number = this.last;
    }
    this.used.set(key, number);
    return number;
  }

  /** The tree is complete: what was not asked for is gone. */
  settle(): void {
    this.known = this.used;
    this.used = new Map();
  }
}
