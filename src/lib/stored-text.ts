/** A string of a header: it ends with its field or at the first NUL, as every C program reads it. */
export function storedText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}
