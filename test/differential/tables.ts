/** Every table of rows, one a verb. */
import type { Row } from './row.js';
import { rows as amend } from './rows/amend.js';
import { rows as bitmap } from './rows/bitmap.js';
import { rows as check } from './rows/check.js';
import { rows as commit } from './rows/commit.js';
import { rows as compare } from './rows/compare.js';
import { rows as convert } from './rows/convert.js';
import { rows as create } from './rows/create.js';
import { rows as dd } from './rows/dd.js';
import { rows as info } from './rows/info.js';
import { rows as map } from './rows/map.js';
import { rows as measure } from './rows/measure.js';
import { rows as rebase } from './rows/rebase.js';
import { rows as resize } from './rows/resize.js';
import { rows as snapshot } from './rows/snapshot.js';

export const TABLES: Readonly<Record<string, readonly Row[]>> = {
  create,
  info,
  map,
  check,
  compare,
  convert,
  dd,
  measure,
  resize,
  snapshot,
  bitmap,
  amend,
  rebase,
  commit,
};
