import type { Format } from '../image/format.js';

/**
 * The driver of that name alone, for threads that must start quickly: its folder, and what that exports, are called as
 * the format is. Only for names that `formats` has.
 */
export async function driverNamed(name: string): Promise<Format> {
  const drivers = (await import(`./${name}/index.js`)) as Readonly<Record<string, Format>>;
  const driver = drivers[name];
  if (driver === undefined) throw new Error(`no driver is called ${name}`);
  return driver;
}
