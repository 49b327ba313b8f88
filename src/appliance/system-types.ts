/** Types of virtual machines that descriptors name, and what machines of a type cannot have. */
import type { Descriptor } from '../formats/ova/descriptor.js';
import { ImgfsError } from '../lib/errors.js';
import { similar } from '../lib/similar.js';

/** VMware's virtual hardware by its versions, VirtualBox', Xen's, and those of KVM and Hyper-V. */
export const SYSTEM_TYPES: readonly string[] = [
  ...[3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22].map(
    (n) => `vmx-${String(n).padStart(2, '0')}`,
  ),
  'virtualbox-2.2',
  'xen-3',
  'hvm-3',
  'kvm',
  'hyperv',
];

/** Throws `usage` for a type that is not well known, unless anything goes that can stand in a descriptor. */
export function checkSystemType(type: string, lax: boolean): void {
  if (SYSTEM_TYPES.includes(type)) return;
  if (lax && /^[\w.: -]{1,64}$/.test(type)) return;
  const like = similar(type, SYSTEM_TYPES);
  throw new ImgfsError('usage', `"${type}" is no well-known type of machine`, {
    hint: `${like === undefined ? 'for example vmx-07' : `did you mean ${like}`}; others with --lax`,
  });
}

/** CIM's numbers. */
export const SATA_CONTROLLER = '20';
const SOUND_CARD = '35';

/** What the machine has that its new type does not: the descriptor says so no less afterwards. */
export function* misfits(type: string, { deviceTypes }: Pick<Descriptor, 'deviceTypes'>): Generator<string> {
  const version = Number(/^vmx-(\d\d)$/.exec(type)?.[1] ?? Number.POSITIVE_INFINITY);
  if (version < 10 && deviceTypes.has(SATA_CONTROLLER)) {
    yield `${type} has no SATA controller, which the descriptor asks for: VMware has it since vmx-10`;
  }
  if (Number.isFinite(version) && deviceTypes.has(SOUND_CARD)) {
    yield 'VMware imports no sound card, which the descriptor asks for: its tools leave it out only with --lax';
  }
}
