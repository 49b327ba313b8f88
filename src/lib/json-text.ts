/** A value as indented JSON: ASCII only, so that no name in an image can play with a terminal. Ends with a line break. */
export function jsonText(value: unknown): string {
  const text = JSON.stringify(value, undefined, 4);
  return `${text.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)}\n`;
}
