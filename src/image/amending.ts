/** Changing how an existing image is made, its disk staying what it is. */
import type { Storage } from '../storage/storage.js';
import type { CreateOption, OptionValues } from './creation.js';
import type { OpenContext } from './format.js';

/** How a format's images are amended. */
export interface Amending {
  /** Besides `size`, `backing_file` and `backing_fmt`. None has a fallback: what is not given stays. */
  readonly options: readonly CreateOption[];
  /**
   * Makes the image what the values say, in steps, each of which is there as a whole or not at all; durable on return.
   * All that can be refused is refused before the first. `size` is the caller's. Throws `usage` and `unsupported`.
   */
  amend(storage: Storage, context: OpenContext, values: AmendValues): void;
}

export interface AmendValues {
  readonly options: OptionValues;
  /** Only for comparing: they cannot be amended. Undefined where the user says nothing of it. */
  readonly backing: { readonly name: string | undefined; readonly format: string | undefined } | undefined;
}
