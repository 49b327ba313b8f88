const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** A number of bytes for people, to three digits: the text qemu-img prints. */
export function sizeText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // From 1000 on, not 1024: never four digits before the point.
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number(value.toPrecision(3))} ${UNITS[unit]}`;
}
