import type { ImageInfo, Json } from '../../image/image.js';
import type { Live } from './cells.js';
import type { Descriptor } from './descriptor.js';
import type { Extent } from './extents.js';
import { SparseExtent } from './sparse.js';

/** What `info` needs to know of a disk. */
export interface Described {
  /** The image's own file, as it was named. */
  readonly name: string;
  readonly descriptor: Descriptor;
  /** The sparse extent that the descriptor stands in is the whole disk. */
  readonly embedded: boolean;
  readonly extents: readonly Extent[];
  readonly live: Live;
}

/** What `info` prints, key by key as qemu-img does. Of extents that were not opened it knows what their lines say. */
export function infoOf({ name, descriptor, embedded, extents, live }: Described): ImageInfo {
  const sparse = extents.filter((extent) => extent instanceof SparseExtent);
  const [first] = sparse;
  const alike = sparse.length === extents.length && sparse.every(({ grainSize }) => grainSize === first?.grainSize);
  const { parentCid, parentName } = descriptor;
  return {
    format: 'vmdk',
    ...(first !== undefined && alike ? { clusterSize: first.grainSize } : {}),
    dirty: sparse.some(({ shape }) => shape.unclean),
    encrypted: false,
    compressed: false,
    ...(parentName === undefined || parentCid === undefined ? {} : { backing: { name: parentName, format: 'vmdk' } }),
    get specific() {
      return {
        type: 'vmdk',
        data: {
          cid: live.cid,
          'parent-cid': parentCid ?? NO_PARENT,
          'create-type': createType(descriptor, embedded, sparse),
          extents: extents.map((extent, n) => ({
            ...describe(extent, embedded ? undefined : descriptor.extents[n], name),
            ...(extents.length === 1 ? { 'virtual-size': live.size } : {}),
          })),
        },
      };
    },
  };
}

const NO_PARENT = 2 ** 32 - 1;

/** What stands in a sparse extent cannot contradict it. */
function createType({ createType: type }: Descriptor, embedded: boolean, sparse: readonly SparseExtent[]): string {
  if (!embedded) return type;
  return sparse.some(({ shape }) => shape.compressed) ? 'streamOptimized' : type;
}

function describe(
  extent: Extent,
  line: Descriptor['extents'][number] | undefined,
  name: string,
): { readonly [key: string]: Json } {
  const sparse = extent instanceof SparseExtent ? extent : undefined;
  return {
    ...(sparse?.shape.compressed === true ? { compressed: true } : {}),
    'virtual-size': extent.size,
    filename: line === undefined ? name : besides(name, line.name ?? ''),
    ...(sparse === undefined ? {} : { 'cluster-size': sparse.grainSize }),
    format: line?.type ?? '',
  };
}

/** A relative name is one in the directory of the image that names it, however that was named itself. */
function besides(image: string, name: string): string {
  return name.startsWith('/') ? name : image.slice(0, image.lastIndexOf('/') + 1) + name;
}
