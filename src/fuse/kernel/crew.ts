/** All data workers of one mount: the first started before it exists, all gone after it. */
import { constants } from 'node:os';
import { send } from './device.js';
import { errorReply, REPLY_HEADER } from './layout.js';
import { Member, type MemberOptions } from './member.js';

/** How many dead workers are replaced in the life of a mount: a request that kills its worker may come again. */
const REPLACEMENTS = 16;
/** In milliseconds. */
const MOMENT = 50;

/** One crew serves one mount: `assemble`, then either `begin` or `dismiss`. */
export class Crew {
  /** Resolves when every worker has seen the end of the mount; rejects when none is left, or a vital one, while it stands. */
  readonly ended: Promise<void>;
  private readonly members = new Set<Member>();
  private settle!: { readonly resolve: () => void; readonly reject: (error: unknown) => void };
  private replaced = 0;
  private sawEnd = false;

  /** No worker uses the device any more. */
  get gone(): boolean {
    return this.members.size === 0;
  }

  private constructor(private readonly options: MemberOptions) {
    this.ended = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // It may reject before anyone has had the occasion to look.
    this.ended.catch(() => undefined);
  }

  /** Starts one worker and waits until it has its DataServer: what fails in it would fail in all. Throws what it threw. */
  static async assemble(options: MemberOptions): Promise<Crew> {
    const crew = new Crew(options);
    const first = new Member(options);
    crew.members.add(first);
    try {
      await first.opened;
    } catch (error) {
      await crew.dismiss();
      throw error;
    }
    return crew;
  }

  /**
   * Lets the first worker read requests from `fd`, and returns when it is about to. The others join it a moment later,
   * one by one: a start takes a processor, which whoever waits for the mount wants first. From here on only the
   * mount's end stops them.
   */
  async begin(fd: number): Promise<void> {
    await Promise.all([...this.members].map((member) => this.start(member, fd)));
    if (this.options.plan.count > 1) setTimeout(() => void this.fill(fd), MOMENT).unref();
  }

  private async fill(fd: number): Promise<void> {
    for (let index = 1; index < this.options.plan.count && this.isServing; index++) await this.join(fd);
  }

  private get isServing(): boolean {
    return !this.sawEnd && this.members.size > 0;
  }

  /** Ends workers that have not begun. */
  async dismiss(): Promise<void> {
    await Promise.all([...this.members].map((member) => member.dismiss()));
  }

  private async start(member: Member, fd: number): Promise<void> {
    void member.gone.then((why) => this.left(member, fd, why));
    member.begin(fd);
    await member.serving;
  }

  private left(member: Member, fd: number, why: unknown): void {
    this.members.delete(member);
    if (why === undefined) {
      this.sawEnd = true;
    } else {
      this.failRequestOf(member, fd, why);
      if (this.options.plan.vital === true) {
        this.settle.reject(why);
        return;
      }
      if (!this.sawEnd && this.replaced < REPLACEMENTS) void this.replace(fd);
    }
    this.checkEnd(why);
  }

  /** Its caller would otherwise wait for ever. A request already answered is unknown to the kernel: no harm. */
  private failRequestOf(member: Member, fd: number, why: unknown): void {
    this.options.log(`a data worker died, its request fails: ${textOf(why)}`);
    const [low = 0, high = 0] = member.inHand;
    if (low !== 0 || high !== 0) send(fd, errorReply(low, high, constants.errno.EIO), REPLY_HEADER);
  }

  private async replace(fd: number): Promise<void> {
    this.replaced += 1;
    await this.join(fd);
  }

  /** One more worker beside those there are; the mount goes on without it where it cannot start. */
  private async join(fd: number): Promise<void> {
    const member = new Member(this.options);
    this.members.add(member);
    try {
      await member.opened;
    } catch (error) {
      this.options.log(`a data worker could not start: ${textOf(error)}`);
      this.members.delete(member);
      this.checkEnd(error);
      return;
    }
    // Should it die before it serves, `left` deals with it.
    await this.start(member, fd).catch(() => undefined);
  }

  private checkEnd(why: unknown): void {
    if (this.members.size > 0) return;
    if (this.sawEnd) this.settle.resolve();
    else this.settle.reject(why);
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
