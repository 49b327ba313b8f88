/** Runs the program as its command line would, and keeps what V8 has compiled by the end. */
import { keepCompiled, start } from '../src/start.cjs';

process.on('exit', keepCompiled);
start('cli/main.js');
