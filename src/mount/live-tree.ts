import type { Ino } from '../fuse/adapter.js';
import type { Tree, TreeNode, ViewSource } from '../tree/tree.js';

/** The tree as it is now. Numbers of files stay when it is made anew, and are never used for another file. */
export class LiveTree {
  /** What each view shows; the same map for as long as the mount lives. */
  readonly sources = new Map<Ino, ViewSource>();
  private current: Tree;

  /**
   * `plant` makes the tree from the images as they are. `changed` is told of views that came (with what they show) and
   * of those that went.
   */
  constructor(
    private readonly plant: () => Tree,
    private readonly changed: (ino: Ino, source: ViewSource | undefined) => void = () => {},
  ) {
    this.current = plant();
    for (const [ino, source] of viewsOf(this.current)) this.sources.set(ino, source);
  }

  get nodes(): ReadonlyMap<Ino, TreeNode> {
    return this.current.nodes;
  }

  get root(): TreeNode {
    return this.current.root;
  }

  /** After an image has changed in more than its bytes. */
  refresh(): void {
    this.current = this.plant();
    const views = new Map(viewsOf(this.current));
    for (const ino of [...this.sources.keys()]) {
      if (views.has(ino)) continue;
      this.sources.delete(ino);
      this.changed(ino, undefined);
    }
    for (const [ino, source] of views) {
      if (this.sources.has(ino)) continue;
      this.sources.set(ino, source);
      this.changed(ino, source);
    }
  }
}

function* viewsOf(tree: Tree): Generator<readonly [Ino, ViewSource]> {
  for (const node of tree.nodes.values()) if (node.kind === 'view') yield [node.ino, node.source];
}
