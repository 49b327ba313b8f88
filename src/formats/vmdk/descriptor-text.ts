/** The text of a new descriptor: line for line what qemu-img and VMware's own tools write. */
import { ImgfsError } from '../../lib/errors.js';

export interface NewDescriptor {
  readonly cid: number;
  readonly parent?: { readonly cid: number; readonly name: string } | undefined;
  readonly createType: string;
  /** Lines that name extents. */
  readonly extents: readonly string[];
  /** Lines of the disk data base, without `ddb.`. */
  readonly data: readonly (readonly [key: string, value: string])[];
}

const NO_PARENT = 'ffffffff';

/** Throws `unsupported` for a name that no line can hold. */
export function descriptorText({ cid, parent, createType, extents, data }: NewDescriptor): string {
  return [
    '# Disk DescriptorFile',
    'version=1',
    `CID=${cidText(cid)}`,
    `parentCID=${parent === undefined ? NO_PARENT : cidText(parent.cid)}`,
    `createType="${createType}"`,
    ...(parent === undefined ? [] : [`parentFileNameHint="${quotable(parent.name)}"`]),
    '',
    '# Extent description',
    ...extents,
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    ...data.map(([key, value]) => `ddb.${key} = "${value}"`),
    '',
  ].join('\n');
}

/** Always eight digits, so that another CID fits in its place. */
export function cidText(cid: number): string {
  return cid.toString(16).padStart(8, '0');
}

/** A name as it may stand between quotes. */
export function quotable(name: string): string {
  if (!/["\r\n\0]/.test(name)) return name;
  throw new ImgfsError('unsupported', `the name "${name}" cannot stand in a vmdk descriptor`);
}
