import type { ContainerSamples } from '../../image/samples.js';
import { broken, good } from './samples/catalogue.js';

/** What the suites that run over all containers need, of archives. */
export const samples: ContainerSamples = { good, broken };
