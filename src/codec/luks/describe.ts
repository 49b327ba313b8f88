import type { HeaderFields } from './layout.js';

type Value = string | number | boolean | readonly { readonly [key: string]: number | boolean }[];

/** What can be told without a key, under qemu-img's names and in its order. */
export function describeLuks(luks: HeaderFields): { readonly [key: string]: Value } {
  const [mode = '', generator = ''] = splitOnce(luks.mode, '-');
  const [ivgen = '', ivgenHash] = splitOnce(generator, ':');
  // XTS uses two keys of the cipher's own size.
  const bits = (mode === 'xts' ? luks.keyBytes / 2 : luks.keyBytes) * 8;
  return {
    'ivgen-alg': ivgen,
    ...(ivgenHash === undefined ? {} : { 'ivgen-hash-alg': ivgenHash }),
    'hash-alg': luks.hash,
    'cipher-alg': `${luks.cipher}-${bits}`,
    uuid: luks.uuid,
    'cipher-mode': mode,
    slots: luks.slots.map(({ state, iterations, keyOffset, stripes }) =>
      state === 'active'
        ? { active: true, iters: iterations, 'key-offset': keyOffset, stripes }
        : { active: false, 'key-offset': keyOffset },
    ),
    'payload-offset': luks.payloadOffset,
    'master-key-iters': luks.digestIterations,
  };
}

function splitOnce(text: string, mark: string): readonly (string | undefined)[] {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
