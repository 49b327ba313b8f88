/** Archives built header by header, as no honest program would write them all. */
import { roundUp } from '../../../lib/bits.js';
import { BLOCK, encodeHeader, sealHeader, TYPES } from '../layout.js';

export interface SampleMember {
  readonly name: string;
  readonly bytes?: Uint8Array;
  readonly type?: string;
  /** The bytes of the size field, where they are to be others. */
  readonly sizeField?: Uint8Array;
  /** In the field for it. */
  readonly prefix?: string;
}

const SIZE_AT = 124;
const TYPE_AT = 156;
const PREFIX_AT = 345;

export function headerOf({
  name,
  bytes = new Uint8Array(),
  type = TYPES.file,
  sizeField,
  prefix,
}: SampleMember): Buffer {
  const header = encodeHeader(name, bytes.length);
  header.write(type, TYPE_AT, 'latin1');
  if (prefix !== undefined) header.write(prefix, PREFIX_AT, 'utf8');
  if (sizeField !== undefined) Buffer.from(sizeField).copy(header, SIZE_AT);
  return sealHeader(header);
}

export function archive(members: readonly SampleMember[], end = 2 * BLOCK): Buffer {
  const pieces = members.flatMap((member) => {
    const data = Buffer.from(member.bytes ?? []);
    return [headerOf(member), data, Buffer.alloc(roundUp(data.length, BLOCK) - data.length)];
  });
  return Buffer.concat([...pieces, Buffer.alloc(end)]);
}
