/**
 * A second reader of QEMU's COW images, for tests: written from a description of the format alone, sharing nothing
 * with the driver. Slow, plain, and only for images that are in order.
 */

/** On which hosts the QEMU ran that wrote it: nothing in the file says so. */
export type Abi = 'LP64' | 'i386';

/** The disk of an image; `base` is what lies below, shorter or longer than the disk. */
export function decode(image: Buffer, abi: Abi, base: Buffer = Buffer.alloc(0)): Buffer {
  if (image.toString('latin1', 0, 4) !== 'OOOM' || image.readUInt32BE(4) !== 2) throw new Error('no COW image');
  const [sizeAt, headerEnd] = abi === 'LP64' ? [1040, 1056] : [1036, 1048];
  const size = Number(image.readBigUInt64BE(sizeAt));
  if (image.readUInt32BE(sizeAt + 8) !== 512) throw new Error('its sectors are not of 512 bytes');
  const sectors = size / 512;
  const firstSector = Math.ceil((headerEnd + Math.ceil(sectors / 8)) / 512) * 512;
  const disk = Buffer.alloc(size);
  base.copy(disk);
  for (let n = 0; n < sectors; n++) {
    const byte = image.readUInt8(headerEnd + Math.floor(n / 8));
    const stored = Math.floor(byte / 2 ** (n % 8)) % 2 === 1;
    if (!stored) continue;
    disk.fill(0, n * 512, (n + 1) * 512);
    image.copy(disk, n * 512, firstSector + n * 512, firstSector + (n + 1) * 512);
  }
  return disk;
}

/** The name it stores for what lies below, and that file's date. */
export function backingOf(image: Buffer): { readonly name: string; readonly modified: number } {
  const name = image.toString('utf8', 8, image.indexOf(0, 8));
  return { name, modified: image.readUInt32BE(1032) };
}
