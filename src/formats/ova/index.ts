import type { Part } from '../../image/container.js';
import type { ContainerFormat } from '../../image/format.js';
import { ImgfsError } from '../../lib/errors.js';
import { readTable, type Storage } from '../../storage/storage.js';
import { containerOf } from './contents.js';
import { MOST_DESCRIPTOR } from './descriptor.js';
import { BLOCK, MAGIC } from './layout.js';
import { readTar, type TarMember } from './tar.js';

const NO_TAR_HEADER = MAGIC.at + MAGIC.bytes.length;

/** An appliance in a tar archive: an OVF descriptor, perhaps its manifest, and what it names. */
export const ova: ContainerFormat = {
  kind: 'container',
  name: 'ova',
  summary: 'an appliance: a tar archive of an OVF descriptor and its disks',
  extensions: ['.ova'],
  probe: (head) => head.length >= NO_TAR_HEADER && MAGIC.bytes.equals(head.subarray(MAGIC.at, NO_TAR_HEADER)),
  ownBytes: () => BLOCK,
  open(storage) {
    const { members, passedOver } = readTar(storage);
    const descriptor = descriptorIn(storage, members);
    const table = new Map(members.map((member) => [member.name, member]));
    const find = (name: string): Part | undefined => {
      const found = table.get(name);
      return found && { at: found.at, length: found.size };
    };
    return containerOf({
      descriptor: { name: descriptor.name, bytes: bytesAt(storage, descriptor.at, descriptor.size) },
      find,
      others: members.map(({ name }) => name),
      passedOver,
      more: {
        descriptor: descriptor.name,
        files: members.map(({ name, at, size }) => ({ name, offset: at, size })),
      },
    });
  },
};

/** An appliance as files in a directory, by its descriptor. */
export const ovf: ContainerFormat = {
  kind: 'container',
  name: 'ovf',
  summary: 'an appliance: an OVF descriptor, with its disks beside it',
  extensions: ['.ovf'],
  // The name of its root element and its namespace, in a text that begins as XML does.
  probe: (head) =>
    /^(?:\xef\xbb\xbf)?\s*<[?!\w][^\0]*<(?:\w+:)?Envelope\b[^>\0]{0,4096}\/ovf\//.test(head.toString('latin1')),
  open(storage) {
    const name = lastPart(storage.name);
    const size = storage.size();
    return containerOf({
      descriptor: { name, bytes: bytesAt(storage, 0, size) },
      find: (wanted) => (wanted === name ? { at: 0, length: size } : { reference: { role: 'member', name: wanted } }),
      others: [name],
      passedOver: [],
      more: { descriptor: name },
    });
  },
};

function descriptorIn(storage: Storage, members: readonly TarMember[]): TarMember {
  const [first, ...others] = members.filter(({ name }) => name.toLowerCase().endsWith('.ovf'));
  if (first === undefined) {
    throw new ImgfsError('unsupported', `${storage.name} is a tar archive without a descriptor (.ovf)`, {
      hint: 'unpack it with tar: it is no appliance',
    });
  }
  if (others.length > 0) throw new ImgfsError('refused', `${storage.name} has several descriptors`);
  return first;
}

function bytesAt(storage: Storage, at: number, size: number): Buffer {
  if (size > MOST_DESCRIPTOR) {
    throw new ImgfsError('limit', `${storage.name}: the descriptor has ${size} bytes, the limit is ${MOST_DESCRIPTOR}`);
  }
  const bytes = Buffer.alloc(size);
  readTable(storage, bytes, at, 'descriptor');
  return bytes;
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
