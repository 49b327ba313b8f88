import type { HeaderFields } from './layout.js';

type Value = string | number | boolean | readonly { readonly [key: string]: number | boolean }[];

/** What can be told without a key, under qemu-img's names. */
export function describeLuks(luks: HeaderFields): { readonly [key: string]: Value } {
  const [mode = '', generator = ''] = splitOnce(luks.mode, '-');
  const [ivgen = '', ivgenHash] = splitOnce(generator, ':');
  // XTS uses two keys of the cipher's own size.
  const bits = (mode === 'xts' ? luks.keyBytes / 2 : luks.keyBytes) * 8;
  return {
    'cipher-alg': `${luks.cipher}-${bits}`,
    'cipher-mode': mode,
    'ivgen-alg': ivgen,
    ...(ivgenHash === undefined ? {} : { 'ivgen-hash-alg': ivgenHash }),
    'hash-alg': luks.hash,
    'payload-offset': luks.payloadOffset,
    'master-key-iters': luks.digestIterations,
    uuid: luks.uuid,
    slots: luks.slots.map(({ state, iterations, keyOffset, stripes }) =>
      state === 'active'
        ? { active: true, iters: iterations, 'key-offset': keyOffset, stripes }
        : { active: false, 'key-offset': keyOffset },
    ),
  };
}

function splitOnce(text: string, mark: string): readonly (string | undefined)[] {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
