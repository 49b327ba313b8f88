/** Every format there is: one line each. Probing, help, the support table and the test suites all start here. */
import type { Format } from '../image/format.js';
import { cow } from './cow/index.js';
import { luks } from './luks/index.js';
import { ova, ovf } from './ova/index.js';
import { qcow } from './qcow/index.js';
import { qcow2 } from './qcow2/index.js';
import { raw } from './raw/index.js';
import { recognised } from './recognised/index.js';
import { vdi } from './vdi/index.js';
import { vmdk } from './vmdk/index.js';

export const formats: readonly Format[] = [raw, cow, qcow, qcow2, vdi, vmdk, luks, ova, ovf, ...recognised];
