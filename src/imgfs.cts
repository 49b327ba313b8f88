#!/usr/bin/env node
/** The program, as it is installed and called. */
import starter = require('./start.cjs');

starter.start('cli/main.js');
