/** What an appliance made around a disk can be told to be. */
import { type Creation, choiceOption, numberOption, sizeOption, textOption } from '../image/creation.js';

const MIB = 1024 * 1024;

export const NAME = textOption('name', "the machine's name (the archive's)");
export const CPUS = numberOption('cpus', 'virtual processors', 1);
export const MEMORY = sizeOption('memory', 'memory', 1024 * MIB);
export const CONTROLLERS = ['lsilogic', 'buslogic', 'lsilogicsas', 'pvscsi', 'ide', 'sata'] as const;
export const CONTROLLER = choiceOption('controller', 'what the disk is attached to', CONTROLLERS, 'lsilogic');
export const NETWORK = textOption('network', 'the network of its adapter; without one it has no adapter');
export const ADAPTERS = ['E1000', 'E1000E', 'PCNet32', 'VmxNet3'] as const;
export const ADAPTER = choiceOption('adapter', 'the kind of network adapter', ADAPTERS, 'E1000');
export const SYSTEM_TYPE = textOption('system_type', 'the type of machine it asks for (vmx-10)');
export const DIGEST = choiceOption('sha', 'the digests of the manifest', ['sha1', 'sha256', 'sha512'], 'sha256');

/** In the way in which formats declare theirs. */
export const APPLIANCE: { readonly name: string; readonly creation: Pick<Creation, 'options' | 'backing'> } = {
  name: 'ova',
  creation: {
    options: [NAME, CPUS, MEMORY, CONTROLLER, NETWORK, ADAPTER, SYSTEM_TYPE, DIGEST],
    backing: false,
  },
};
