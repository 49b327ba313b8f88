/** Bytes for samples: they differ from place to place, and compress badly enough to be worth storing. */
export function pattern(length: number, salt: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = salt;
  for (let i = 0; i < length; i++) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    bytes[i] = Math.floor(state / 2 ** 24);
  }
  return bytes;
}
