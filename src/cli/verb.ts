import type { Command } from 'commander';

/**
 * How the program was called: by a verb, as `imgfs IMAGE MOUNTPOINT` (what mount(8) runs for the type `fuse.imgfs`),
 * or under a mount helper's name (`mount.imgfs`). The last two always mean the verb mount.
 */
export type CalledAs = 'verb' | 'bare' | 'helper';

/** The exit status for each kind of failure. A verb with more to say returns its own from `run`. */
export interface ExitCodes {
  readonly usage: number;
  /** The machine lacks something (no FUSE, no FFI). */
  readonly system: number;
  readonly failure: number;
}

/** For verbs qemu-img has too: scripts see the codes they know. */
export const QEMU_IMG_CODES: ExitCodes = { usage: 1, system: 1, failure: 1 };
/** For verbs of our own. */
export const OWN_CODES: ExitCodes = { usage: 2, system: 1, failure: 1 };
/** What mount(8) expects of a helper; used for every call that is not by a verb. */
export const HELPER_CODES: ExitCodes = { usage: 1, system: 2, failure: 32 };

/**
 * One verb: one file in this folder, one line in verbs.ts. Modules of verbs are loaded only to run them or to print
 * their help, so they may import what they need.
 */
export interface Verb {
  readonly exitCodes: ExitCodes;
  /** Declares arguments and options. Name, summary and help are the dispatcher's. */
  declare(command: Command, calledAs: CalledAs): void;
  /** Puts arguments into a form that can be parsed, where users write them in another. */
  arrange?(args: readonly string[]): readonly string[];
  /** Does it, after the arguments were checked, and returns the exit status. Throws ImgfsError. */
  run(command: Command, calledAs: CalledAs): number | Promise<number>;
}

/** A line of the table of verbs: all that `imgfs --help` needs to know. */
export interface VerbEntry {
  readonly name: string;
  readonly summary: string;
  load(): Promise<Verb>;
}
