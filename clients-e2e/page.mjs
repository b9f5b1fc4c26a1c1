// The page's own memory of a run: what of it needs no browser, as modules, against a small server.

import assert from 'node:assert/strict';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const page = join(dirname(fileURLToPath(import.meta.url)), '../crates/sse-fanout/page');
// Where the page is, of which its modules look for a token.
globalThis.location = new URL('http://localhost/runs/r');
const folder = await mkdtemp(join(tmpdir(), 'runcast-page-'));
try {
  await cp(page, folder, { recursive: true });
  await writeFile(join(folder, 'package.json'), '{"type":"module"}'); // as browsers take them
  const { Track } = await import(join(folder, 'track.js'));
  const { Record } = await import(join(folder, 'record.js'));
  searches(Track);
  bounds(Record);
  await loads(Record);
  console.log('page: a moment is found as by looking through all, memory is bounded, what is new is read on');
} finally {
  await rm(folder, { recursive: true });
}

// A small generator with a seed, so that a failure repeats.
function random(seed) {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
}

function searches(Track) {
  for (let seed = 1; seed <= 30; seed++) {
    const next = random(seed);
    const track = new Track('output', 'v');
    const said = []; // effective time and characters of all that ever was
    for (let step = 0; step < 5000; step++) {
      if (next(3)) {
        const at = Math.max(said.at(-1)?.at ?? 0, step * 10 - next(100));
        const given = next(2) ? at : Math.max(0, step * 10 - 100 - next(100)); // clocks go back
        const chars = next(20);
        said.push({ at: Math.max(said.at(-1)?.at ?? 0, given), chars: (said.at(-1)?.chars ?? 0) + chars });
        track.add(given, `${said.length - 1}`, chars);
      } else if (said.length - track.dropped > 1) {
        assert.equal(track.drop(), `${track.dropped - 1}`);
      } else {
        assert.equal(track.drop(), undefined);
      }
      if (step % 50) continue;
      const moment = next(50_000);
      const expected = Math.max(track.dropped, said.filter(({ at }) => at <= moment).length);
      assert.equal(track.upTo(moment), expected, `seed ${seed}, step ${step}`);
      assert.equal(track.chars(expected), said[expected - 1]?.chars ?? 0, `seed ${seed}, step ${step}`);
      for (let index = track.dropped; index < said.length; index += 97) {
        assert.deepEqual([track.item(index), track.time(index)], [`${index}`, said[index].at]);
      }
    }
  }
}

function message(variation, sequence, content, at = sequence, type = 'output', more = {}) {
  const timestamp = new Date(1e12 + at).toISOString();
  return { timestamp, run_id: 'r', variation_id: variation, sequence, type, content, metadata: {}, ...more };
}

function bounds(Record) {
  const record = new Record('http://nowhere', 'r', null, 1000);
  for (let sequence = 1; sequence <= 500; sequence++) {
    assert(record.take(message('a', sequence, 'ten chars.', 2 * sequence)));
    assert(record.take(message('b', sequence, 'ten chars.', 2 * sequence + 1)));
    assert(!record.take(message('b', sequence, 'again')), 'a message counts once');
  }
  const [a, b] = record.of('output');
  assert.equal(a.length - a.dropped + b.length - b.dropped, 100, 'the last 1000 characters are kept');
  assert.equal(record.from, 1e12 + 2 * 451 + 1, 'from here on nothing of either is lacking');
  assert.equal(b.chars(500), 5000, 'what was let go is counted');
}

async function loads(Record) {
  const all = [];
  for (let n = 1; n <= 50; n++) all.push(message('a', n, `Grüße ${n} 🛰️`), message('b', n, { state: 'running' }, n, 'status'));
  all.push(message('a', 1, { step: 'issued' }, 60, 'control', { writer: '@control' }));
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(new URL(request.url, 'http://x').searchParams);
    const after = asked.at(-1).get('after');
    const rest = all.filter(({ sequence }) => !after || sequence > 50);
    const bytes = Buffer.from(rest.map((each) => `${JSON.stringify(each)}\n`).join(''));
    // In pieces that end anywhere, also in the middle of a character.
    const send = (at) => (at < bytes.length ? response.write(bytes.subarray(at, at + 37), () => send(at + 37)) : response.end());
    send(0);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const record = new Record(`http://127.0.0.1:${server.address().port}`, 'r', 'a,b');
  assert.equal(await record.load(), true);
  assert.equal(record.tracks.get('output/a').item(49), 'Grüße 50 🛰️');
  assert.equal(record.tracks.get('control/@control').length, 1);
  assert.deepEqual([...asked[0]], [['channels', 'output,status,control,acks'], ['limit', 'all'], ['variations', 'a,b']]);
  assert.equal(await record.load(), false, 'nothing new');
  assert.equal(asked[1].get('after'), 'a:50,b:0.0.50,@control:0.0.0.0.1');
  all.push(message('a', 51, 'more', 70));
  assert.equal(await record.load(), true);
  assert.equal(record.tracks.get('output/a').length, 51);
  server.close();
}
