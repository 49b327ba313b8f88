/**
 * XML as far as imgfs needs it: elements, their attributes and text, and where in the document they stand, so that a
 * piece can be replaced and every other byte kept. No DTD, no entities but the five, nothing outside the document.
 */
import { SaxesParser, type SaxesTagNS } from 'saxes';
import { corrupt, ImgfsError } from '../lib/errors.js';

/** An element, all of it read. */
export interface XmlElement {
  /** Local names from the root to this element. */
  readonly path: readonly string[];
  readonly namespace: string;
  /** The value of an attribute: one without a namespace, or in that of the root. */
  attribute(local: string): string | undefined;
  /** Its own text, without that of the elements within; entities resolved. */
  readonly text: string;
  /** Where its content begins and ends in the document, as indices into the string. */
  readonly content: { readonly start: number; readonly end: number };
  /** Nothing but text is within, between two tags. */
  readonly plain: boolean;
}

/** Deeper documents cost more than they could mean: looking up a prefix walks up to where it is declared. */
const DEEPEST = 64;

interface Open {
  readonly tag: SaxesTagNS;
  readonly start: number;
  text: string;
  plain: boolean;
}

/** Calls `visit` with every element of the document at its end. Throws `corrupt` and `refused`; `name` is for messages. */
export function walkXml(document: string, name: string, visit: (element: XmlElement) => void): void {
  const parser = new SaxesParser({ xmlns: true });
  const open: Open[] = [];
  const around = (): void => {
    const parent = open.at(-1);
    if (parent !== undefined) parent.plain = false;
  };
  parser.on('error', (error) => {
    throw corrupt(`${name} is no well-formed XML: ${error.message}`);
  });
  parser.on('doctype', () => {
    throw new ImgfsError('refused', `${name} has a document type definition`, { hint: 'remove its DOCTYPE' });
  });
  parser.on('opentagstart', () => {
    if (open.length >= DEEPEST) throw new ImgfsError('limit', `${name}: elements are nested deeper than ${DEEPEST}`);
  });
  parser.on('opentag', (tag) => {
    around();
    open.push({ tag, start: parser.position, text: '', plain: !tag.isSelfClosing });
  });
  const addText = (text: string): void => {
    const element = open.at(-1);
    if (element !== undefined) element.text += text;
  };
  parser.on('text', addText);
  parser.on('cdata', (text) => {
    around();
    addText(text);
  });
  parser.on('comment', around);
  parser.on('processinginstruction', around);
  parser.on('closetag', ({ isSelfClosing }) => {
    const path = open.map(({ tag }) => tag.local);
    const root = open[0]?.tag.uri ?? '';
    const { tag, start, text, plain } = open.pop() as Open;
    const end = isSelfClosing ? start : document.lastIndexOf('</', parser.position);
    visit({
      path,
      namespace: tag.uri,
      attribute: (local) =>
        Object.values(tag.attributes).find((one) => one.local === local && (one.uri === '' || one.uri === root))?.value,
      text,
      content: { start, end },
      plain,
    });
  });
  parser.write(document).close();
}

/** Text as it can stand within an element or an attribute. */
export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
