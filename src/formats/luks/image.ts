import { describeLuks } from '../../codec/luks/describe.js';
import { readLuksHeader } from '../../codec/luks/header.js';
import type { HeaderFields } from '../../codec/luks/layout.js';
import { luksView } from '../../image/encrypted.js';
import type { OpenContext } from '../../image/format.js';
import { Health } from '../../image/health.js';
import type { Image } from '../../image/image.js';
import { MappedImage } from '../../image/mapping.js';
import { ImgfsError } from '../../lib/errors.js';
import type { Storage } from '../../storage/storage.js';
import { LuksLayer } from './layer.js';
import { LuksWriter } from './writer.js';

/**
 * Opens a container, with its passphrase where the context asks for the contents. Throws `unsupported` for ciphers we
 * do not have and for a header whose data lies elsewhere, and what reading the header throws.
 */
export function openImage(storage: Storage, context: OpenContext): Image {
  const header = readHeader(storage);
  const view = luksView(storage, storage, context);
  const layer = new LuksLayer(storage, view, header.payloadOffset, {
    writable: context.writable,
    sharing: context.sharing,
    info: {
      format: 'luks',
      dirty: false,
      encrypted: true,
      compressed: false,
      // Read when it is asked for: keys may have been added since.
      get specific() {
        return { type: 'luks', data: describeLuks(readLuksHeader(storage)) };
      },
    },
  });
  const health = new Health(context.sharing);
  const writing = context.writable ? { writer: new LuksWriter(layer, health), health } : undefined;
  return new MappedImage({ layer, writing, unpackedBytes: context.limits.unpackedBytes });
}

/** The header of a container that holds its data too. */
export function readHeader(storage: Storage): HeaderFields {
  const header = readLuksHeader(storage);
  const { payloadOffset } = header;
  if (payloadOffset === 0) {
    throw new ImgfsError('unsupported', `${storage.name}: a detached LUKS header: its data lies in another file`);
  }
  if (payloadOffset > storage.size()) {
    throw new ImgfsError('truncated', `${storage.name}: the file ends before the LUKS data`);
  }
  return header;
}
