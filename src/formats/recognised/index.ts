import type { KnownFormat } from '../../image/format.js';
import * as magic from './layout.js';

function known(
  name: string,
  summary: string,
  extensions: readonly string[],
  ...signatures: readonly magic.Signature[]
): KnownFormat {
  return {
    kind: 'known',
    name,
    summary,
    extensions,
    probe: (head, tail) => signatures.some((signature) => magic.stands(signature, head, tail)),
  };
}

/** Formats that are recognised and refused by name, so that none of them is ever taken for a raw disk. */
export const recognised: readonly KnownFormat[] = [
  known('vhd', 'a Virtual PC disk', ['.vhd', '.vpc'], magic.VHD_FOOTER_AT_END, magic.VHD_FOOTER_COPY),
  known('vhdx', 'a Hyper-V disk', ['.vhdx', '.avhdx'], magic.VHDX),
  known('qed', 'a QEMU enhanced disk', ['.qed'], magic.QED),
  known('parallels', 'a Parallels disk', ['.hds'], magic.PARALLELS, magic.PARALLELS_EXTENDED),
  known('dmg', 'an Apple disk image', ['.dmg'], magic.DMG_TRAILER),
  known('cloop', 'a compressed loop image', ['.cloop'], magic.CLOOP),
  known('bochs', 'a Bochs disk', ['.bochs'], magic.BOCHS),
  known('asif', 'an Apple sparse image', ['.asif'], magic.ASIF),
  known('ewf', 'an Expert Witness image', ['.e01'], magic.EWF),
];
