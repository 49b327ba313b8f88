/** Names as images and users give them, before they are looked up. */

/** `json:` and anything with a protocol: QEMU takes every colon before the first slash for one. We follow none. */
export const PROTOCOL = /^[^/]*:/;

/** A relative name is one in the directory of the image that names it, however that was named itself. */
export function combinedName(from: string, named: string): string {
  const stands = named.startsWith('/') || PROTOCOL.test(named);
  return stands ? named : from.slice(0, from.lastIndexOf('/') + 1) + named;
}
