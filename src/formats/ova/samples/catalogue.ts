/** Archives of every kind that must open, and of every kind that must not. */
import type { BrokenContainer, GoodContainer } from '../../../image/samples.js';
import type { Reason } from '../../../lib/errors.js';
import { BLOCK, paxRecord, TYPES } from '../layout.js';
import { archive, headerOf, type SampleMember } from './archive.js';
import { type SampleDisk, virtualBox, virtV2v, vmware } from './descriptors.js';

/** Bytes that differ from place to place. */
function disk(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = (at * 7 + Math.floor(at / 256) * 13 + seed) % 256;
  return bytes;
}

const FIRST = disk(70_000, 1);
const SECOND = disk(1, 2);
const NAMES = ['sample-disk1.vmdk', 'sample-disk2.vmdk'] as const;
const DISKS: readonly SampleDisk[] = NAMES.map((href) => ({ href }));
const MEMBERS: readonly SampleMember[] = [
  { name: NAMES[0], bytes: FIRST },
  { name: NAMES[1], bytes: SECOND },
];
const STORED = [
  { name: NAMES[0], bytes: FIRST },
  { name: NAMES[1], bytes: SECOND },
] as const;

function descriptor(text: string, name = 'sample.ovf'): SampleMember {
  return { name, bytes: Buffer.from(text) };
}

const OVF = descriptor(virtualBox(DISKS));

function base256(...bytes: readonly number[]): Uint8Array {
  return Uint8Array.of(...bytes);
}

const LONG = `${'long-'.repeat(30)}disk.vmdk`;

function withLongName(...before: readonly SampleMember[]): Buffer {
  return archive([descriptor(virtualBox([{ href: LONG }])), ...before, { name: LONG.slice(0, 100), bytes: FIRST }]);
}

function chunked(): Buffer {
  const href = NAMES[0];
  const chunk = (n: number, bytes: Uint8Array): SampleMember => ({ name: `${href}.00000000${n}`, bytes });
  return archive([
    descriptor(virtualBox([{ href, file: ' ovf:chunkSize="30000" ovf:size="70000"' }])),
    chunk(0, FIRST.subarray(0, 30_000)),
    chunk(1, FIRST.subarray(30_000, 60_000)),
    chunk(2, FIRST.subarray(60_000)),
  ]);
}

export function good(): readonly GoodContainer[] {
  const ova = (name: string, container: Uint8Array, disks: GoodContainer['disks'] = STORED): GoodContainer => ({
    name,
    fileName: 'sample.ova',
    container,
    disks,
  });
  const [first] = STORED;
  const long = [{ ...first, name: LONG }];
  return [
    ova('as VirtualBox describes it', archive([OVF, ...MEMBERS])),
    ova('as VMware describes it', archive([descriptor(vmware(DISKS)), ...MEMBERS])),
    ova('as virt-v2v describes it', archive([descriptor(virtV2v(DISKS)), ...MEMBERS])),
    ova('with a byte order mark', archive([descriptor(`\ufeff${virtualBox(DISKS)}`), ...MEMBERS])),
    ova(
      'with the descriptor last, and names that begin with ./',
      archive([...MEMBERS, OVF].map((member) => ({ ...member, name: `./${member.name}` }))),
    ),
    ova('that ends with its last member', archive([OVF, ...MEMBERS], 0)),
    ova('with something after its end', Buffer.concat([archive([OVF, ...MEMBERS]), disk(3000, 9)])),
    ova(
      'with a name that GNU made room for',
      withLongName({ name: '././@LongLink', type: TYPES.longName, bytes: Buffer.from(`${LONG}\0`) }),
      long,
    ),
    ova(
      'with a name that pax made room for',
      withLongName({ name: 'pax', type: TYPES.pax, bytes: paxRecord('path', LONG) }),
      long,
    ),
    ova(
      'with a size of pax',
      archive([
        OVF,
        { name: 'pax', type: TYPES.pax, bytes: paxRecord('size', '70000') },
        { ...MEMBERS[0]!, sizeField: Buffer.from('00000000000\0') },
        MEMBERS[1]!,
      ]),
    ),
    ova(
      'with a size in base 256',
      archive([OVF, { ...MEMBERS[0]!, sizeField: base256(128, 0, 0, 0, 0, 0, 0, 0, 0, 1, 17, 112) }, MEMBERS[1]!]),
    ),
    ova(
      'with links, directories and devices, which are passed over',
      archive([
        { name: './', type: TYPES.directory },
        OVF,
        { name: 'link', type: TYPES.symbolicLink },
        { name: 'hard', type: TYPES.hardLink },
        { name: 'node', type: TYPES.blockDevice },
        { name: 'fifo', type: TYPES.fifo },
        { name: 'later', type: 'Z' },
        ...MEMBERS,
      ]),
    ),
    ova(
      'with names that lead elsewhere, which are passed over',
      archive([
        OVF,
        { name: '../sample-disk1.vmdk', bytes: SECOND },
        { name: '/etc/passwd', bytes: SECOND },
        { name: 'folder/sample-disk1.vmdk', bytes: SECOND },
        { name: 'sample-disk1.vmdk', bytes: SECOND, prefix: '..' },
        ...MEMBERS,
      ]),
    ),
    ova(
      'with a name that is written as a URI has it',
      archive([descriptor(virtualBox([{ href: 'a%20b%25-%C3%B6.vmdk' }])), { name: 'a b%-\u00f6.vmdk', bytes: FIRST }]),
      [{ ...first, name: 'a b%-\u00f6.vmdk' }],
    ),
    ova('cut into chunks', chunked(), [first]),
  ];
}

/** A descriptor of one disk, changed. */
function altered(from: string | RegExp, to: string): Buffer {
  const text = virtualBox([DISKS[0]!]);
  const changed = text.replace(from, to);
  if (changed === text) throw new Error(`there is no ${from}`);
  return archive([descriptor(changed), MEMBERS[0]!]);
}

export function broken(): readonly BrokenContainer[] {
  const whole = archive([OVF, ...MEMBERS]);
  const ova = (name: string, container: Uint8Array, reason: Reason): BrokenContainer => ({
    name,
    fileName: 'sample.ova',
    container,
    reason,
  });
  const sized = (...bytes: readonly number[]): Buffer =>
    archive([OVF, { ...MEMBERS[0]!, sizeField: base256(...bytes) }, MEMBERS[1]!]);
  const laughs = `<!DOCTYPE Envelope [<!ENTITY a "ha">${Array.from({ length: 20 }, (_, n) => `<!ENTITY b${n} "${(n === 0 ? '&a;' : `&b${n - 1};`).repeat(10)}">`).join('')}]><Envelope>&b19;</Envelope>`;
  const external = '<!DOCTYPE Envelope SYSTEM "file:///etc/passwd"><Envelope/>';
  const nested = `${'<a>'.repeat(70)}${'</a>'.repeat(70)}`;
  return [
    ova('tar-not-an-appliance', archive(MEMBERS), 'unsupported'),
    ova('tar-cut-in-a-member', whole.subarray(0, whole.length - 3 * BLOCK - 1), 'truncated'),
    ova('tar-cut-in-a-header', whole.subarray(0, BLOCK + 100), 'truncated'),
    ova(
      'tar-wrong-checksum',
      Buffer.concat([whole.subarray(0, BLOCK - 1), Buffer.from('x'), whole.subarray(BLOCK)]),
      'corrupt',
    ),
    ova('tar-negative-size', sized(255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0), 'corrupt'),
    ova('tar-size-beyond-2-to-53', sized(128, 0, 0, 0, 127, 255, 255, 255, 255, 255, 255, 0), 'corrupt'),
    ova('tar-size-past-the-end', sized(128, 0, 0, 0, 0, 0, 0, 127, 255, 255, 255, 0), 'truncated'),
    ova('tar-size-of-letters', sized(...Buffer.from('-0000000001\0')), 'corrupt'),
    ova('tar-octal-overflow', sized(...Buffer.from('777777777777')), 'truncated'),
    ova('tar-duplicate-name', archive([OVF, ...MEMBERS, { name: './sample-disk1.vmdk', bytes: SECOND }]), 'refused'),
    ova('tar-two-descriptors', archive([OVF, descriptor(virtualBox(DISKS), 'other.ovf'), ...MEMBERS]), 'refused'),
    ova('tar-sparse-member', archive([OVF, { ...MEMBERS[0]!, type: TYPES.sparse }]), 'unsupported'),
    ova(
      'tar-sparse-member of pax',
      archive([OVF, { name: 'pax', type: TYPES.pax, bytes: paxRecord('GNU.sparse.major', '1') }, MEMBERS[0]!]),
      'unsupported',
    ),
    ova(
      'tar-malformed-pax',
      archive([OVF, { name: 'pax', type: TYPES.pax, bytes: Buffer.from('99 path=x\n') }, MEMBERS[0]!]),
      'corrupt',
    ),
    ova(
      'tar-pax-size-past-the-end',
      archive([OVF, { name: 'pax', type: TYPES.pax, bytes: paxRecord('size', '99999999999') }, MEMBERS[0]!]),
      'truncated',
    ),
    ova(
      'tar-endless-long-name',
      archive([OVF, { name: 'x', type: TYPES.longName, bytes: Buffer.alloc(70_000, 'x') }, MEMBERS[0]!]),
      'limit',
    ),
    ova(
      'tar-many-headers',
      Buffer.concat([
        archive([OVF, ...MEMBERS], 0),
        ...Array.from({ length: 4100 }, (_, n) => headerOf({ name: `n${n}` })),
      ]),
      'limit',
    ),
    ova('tar-disk-is-a-link', archive([OVF, { name: NAMES[0], type: TYPES.symbolicLink }, MEMBERS[1]!]), 'missing'),
    ova('ovf-disk-missing', archive([OVF, MEMBERS[0]!]), 'missing'),
    ova('ovf-billion-laughs', archive([descriptor(laughs), ...MEMBERS]), 'refused'),
    ova('ovf-external-dtd', archive([descriptor(external), ...MEMBERS]), 'refused'),
    ova('ovf-unknown-entity', altered('A machine', '&machine;'), 'corrupt'),
    ova('ovf-nested-deeply', altered('A machine', nested), 'limit'),
    ova('ovf-over-1-MiB', altered('A machine', ' '.repeat(2 ** 20)), 'limit'),
    ova('ovf-not-xml', archive([descriptor('PK\u0003\u0004'), ...MEMBERS]), 'corrupt'),
    ova('ovf-other-document', archive([descriptor('<html/>'), ...MEMBERS]), 'corrupt'),
    ova(
      'ovf-not-utf-8',
      archive([{ name: 'sample.ovf', bytes: Buffer.from('<Envelope a="\xff"/>', 'latin1') }]),
      'unsupported',
    ),
    ova(
      'ovf-utf-16',
      archive([{ name: 'sample.ovf', bytes: Buffer.from('\ufeff<Envelope/>', 'utf16le') }]),
      'unsupported',
    ),
    ova('ovf-href-absolute', altered(`href="${NAMES[0]}"`, 'href="/etc/passwd"'), 'refused'),
    ova('ovf-href-dotdot', altered(`href="${NAMES[0]}"`, 'href="../sample-disk1.vmdk"'), 'refused'),
    ova('ovf-href-encoded-slash', altered(`href="${NAMES[0]}"`, 'href="..%2Fsample-disk1.vmdk"'), 'refused'),
    ova('ovf-href-url', altered(`href="${NAMES[0]}"`, 'href="http://host/disk.vmdk"'), 'refused'),
    ova('ovf-href-scheme', altered(`href="${NAMES[0]}"`, 'href="json:{}"'), 'refused'),
    ova('ovf-href-empty', altered(`href="${NAMES[0]}"`, 'href=""'), 'refused'),
    ova('ovf-unknown-file', altered('fileRef="file1"', 'fileRef="file9"'), 'corrupt'),
    ova('ovf-capacity-beyond-2-to-53', altered('capacity="65536"', 'capacity="9007199254740993"'), 'corrupt'),
    ova('ovf-capacity-negative', altered('capacity="65536"', 'capacity="-1"'), 'corrupt'),
    ova('ovf-unknown-compression', altered('ovf:id="file1"', 'ovf:id="file1" ovf:compression="bzip2"'), 'unsupported'),
    ova('ovf-chunks-of-nothing', altered('ovf:id="file1"', 'ovf:id="file1" ovf:chunkSize="0" ovf:size="5"'), 'corrupt'),
    ova('ovf-too-many-chunks', altered('ovf:id="file1"', 'ovf:id="file1" ovf:chunkSize="1" ovf:size="70000"'), 'limit'),
    ova(
      'ovf-chunk-missing',
      altered('ovf:id="file1"', 'ovf:id="file1" ovf:chunkSize="30000" ovf:size="70000"'),
      'missing',
    ),
  ];
}
