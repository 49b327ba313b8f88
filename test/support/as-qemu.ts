/** What imgfs says of an image, in qemu-img's words and beside it. */
import { expect } from 'chai';
import { extents, type Image } from '../../src/image/image.js';
import { openFile, readAll } from './images.js';
import { qemuBytes, qemuImgJson, settle } from './qemu.js';

/** Bytes, description and map of the image at `path` are what qemu-img says. */
export function expectAsQemu(path: string, format: string): void {
  settle(path);
  const image = openFile(path, format);
  try {
    expect(readAll(image).equals(qemuBytes(path, '-f', format)), 'bytes').to.equal(true);
    expect(infoOf(image)).to.deep.equal(qemuInfo(path));
    // qemu-img prints one entry of length 0 for an empty disk; extents tile it with none.
    if (image.size > 0) expect(mapOf(image)).to.deep.equal(qemuImgJson('map', '--output=json', '-f', format, path));
  } finally {
    image.close();
  }
}

/** As `qemu-img info --output=json`, without what is the file's and not the image's. */
export function infoOf(image: Image): unknown {
  const { info } = image;
  return {
    'virtual-size': image.size,
    format: info.format,
    'cluster-size': info.clusterSize,
    'dirty-flag': info.dirty,
    ...(info.encrypted ? { encrypted: true } : {}),
    ...(info.backing === undefined ? {} : { 'backing-filename': info.backing.name }),
    ...(info.backing?.format === undefined ? {} : { 'backing-filename-format': info.backing.format }),
    ...(info.specific === undefined ? {} : { 'format-specific': info.specific }),
  };
}

const HOST_KEYS = ['filename', 'actual-size', 'full-backing-filename', 'snapshots', 'children'];

/** What qemu-img says in its place. */
export function qemuInfo(path: string): unknown {
  const seen = qemuImgJson('info', '--output=json', path) as Record<string, unknown>;
  return Object.fromEntries(Object.entries(seen).filter(([key]) => !HOST_KEYS.includes(key)));
}

/** As `qemu-img map`: it gives no offset for a range that no layer has. */
function mapOf(image: Image): unknown {
  return [...extents(image)].map(({ start, length, depth, present, zero, data, offset }) => ({
    start,
    length,
    depth,
    present,
    zero,
    data,
    ...(offset === undefined ? {} : { offset }),
  }));
}
