import type { Command } from 'commander';
import { describeChain, describeImage, infoJson } from '../image/describe.js';
import { containerText, describeContainer } from '../image/describe-container.js';
import { infoText } from '../image/info-text.js';
import { openAny } from '../image/open.js';
import { OpenedContainer } from '../image/opened-container.js';
import { jsonText } from '../lib/json-text.js';
import { declareJsonOptions, type JsonFlags, wantsJson } from './json-option.js';
import { declareOpenOptions, lookingAt, type OpenFlags, openOptions } from './open-options.js';
import { print } from './output.js';
import { QEMU_IMG_CODES, type Verb } from './verb.js';

/** `imgfs info`: what an image is. Opens that one file only, unless the chain is asked for. */
export const verb: Verb = {
  exitCodes: QEMU_IMG_CODES,
  declare(command) {
    command.argument('<image>', 'the image');
    declareJsonOptions(command);
    command.option('--backing-chain', 'also every image below it');
    declareOpenOptions(command, { letter: true });
  },
  run(command: Command) {
    const flags = command.opts<JsonFlags & OpenFlags & { backingChain?: true }>();
    const [path = ''] = command.args;
    const json = wantsJson(flags);
    const wholeChain = flags.backingChain === true;
    const options = openOptions(flags);
    const opened = lookingAt(path, wholeChain ? options : { ...options, references: 'unopened' }, openAny);
    if (opened instanceof OpenedContainer) {
      const document = describeContainer(opened);
      opened.close();
      print(json ? jsonText(document) : containerText(document));
      return 0;
    }
    try {
      const documents = wholeChain ? describeChain(opened) : [describeImage(opened)];
      if (!json) print(documents.map(infoText).join('\n'));
      else print(infoJson(wholeChain ? documents : (documents[0] ?? [])));
    } finally {
      opened.image.close();
    }
    return 0;
  },
};
