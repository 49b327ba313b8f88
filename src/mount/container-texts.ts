import { type Verification, verify } from '../appliance/verify.js';
import { describeContainer } from '../image/describe-container.js';
import type { Json } from '../image/image.js';
import type { OpenedContainer } from '../image/opened-container.js';
import { errorLine, ImgfsError } from '../lib/errors.js';
import { jsonText } from '../lib/json-text.js';

/** In milliseconds: how long reading info.json may wait for the manifest, and how long anything else for a step. */
const AT_ONCE = 200;
const STEP = 10;

type ManifestState = { readonly [key: string]: Json };

/**
 * The texts of a container's directory. The files are held against the manifest when info.json is first read, never
 * before: what takes longer than a moment goes on beside the other work of this thread, and info.json says how far it is.
 */
export class ContainerTexts {
  private state: ManifestState = { state: 'not verified' };
  private steps: Generator<number, Verification> | undefined;

  /** Owns the container. */
  constructor(private readonly opened: OpenedContainer) {}

  text(kind: 'container' | 'descriptor'): Buffer {
    if (kind === 'descriptor') return this.opened.container.descriptor.bytes;
    return Buffer.from(jsonText(describeContainer(this.opened, this.state)));
  }

  startVerifying(): void {
    if (this.steps !== undefined) return;
    this.steps = verify(this.opened);
    this.go(AT_ONCE);
  }

  close(): void {
    this.steps?.return({ manifest: undefined, certificate: undefined, verified: [], problems: [] });
    this.opened.close();
  }

  private go(milliseconds: number): void {
    if (this.steps === undefined) return;
    const end = performance.now() + milliseconds;
    try {
      for (let part = 0; performance.now() < end; ) {
        const step = this.steps.next();
        if (step.done === true) {
          this.state = outcome(step.value);
          return;
        }
        part = step.value;
        this.state = { state: 'being verified', percent: Math.floor(part * 100) };
      }
    } catch (error) {
      if (!(error instanceof ImgfsError)) throw error;
      this.state = { state: 'failed', problems: [errorLine(error).replace('imgfs: ', '')] };
      return;
    }
    setTimeout(() => this.go(STEP), 1).unref();
  }
}

function outcome({ manifest, certificate, verified, problems }: Verification): ManifestState {
  return {
    state: manifest === undefined ? 'absent' : problems.length === 0 ? 'verified' : 'failed',
    ...(manifest === undefined ? {} : { name: manifest, verified }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(problems.length === 0 ? {} : { problems }),
  };
}
