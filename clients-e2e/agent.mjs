// The agent of the test: `node agent.mjs SEED SECONDS [FILE]` writes textFor(SEED) in small pieces, cut
// anywhere (in the middle of a character, too), with log records between the lines. With FILE, the last
// piece waits until there is such a file.

import { setTimeout as sleep } from 'node:timers/promises';
import { existsSync, writeSync } from 'node:fs';
import { numbers, textFor } from './text.mjs';

const [seed, seconds] = process.argv.slice(2, 4).map(Number);
const awaited = process.argv[4];
const random = numbers(seed + 1);
const bytes = Buffer.from(textFor(seed));

const pieces = [];
for (let at = 0; at < bytes.length;) {
  // Records may stand where a line begins, so a piece never reaches over a line end.
  const lineEnd = bytes.indexOf(10, at) + 1 || bytes.length;
  const end = Math.min(at + 1 + Math.floor(random() * 8), lineEnd);
  pieces.push(bytes.subarray(at, end));
  at = end;
}

let lineStart = true;
let records = 0;
let behind = 0;
for (const [number, piece] of pieces.entries()) {
  if (awaited && number === pieces.length - 1) {
    while (!existsSync(awaited)) await sleep(20);
  }
  if (lineStart && random() < 0.2) {
    const record = { timestamp: new Date().toISOString(), level: 'info', message: `record ${++records}` };
    writeSync(1, `${JSON.stringify(record)}\n`);
    if (random() < 0.5) writeSync(2, `stderr ${records}\n`);
  }
  writeSync(1, piece);
  lineStart = piece.at(-1) === 10;
  behind += (seconds * 1000) / pieces.length;
  if (behind >= 4) {
    const before = performance.now();
    await sleep(behind);
    behind -= performance.now() - before;
  }
}
