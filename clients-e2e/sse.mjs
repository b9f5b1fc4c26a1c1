// Starts a Redis, a fan-out and two agents under sidecars, lets each client read the run through a
// proxy that cuts it off again and again, and compares what it saw with what the agents wrote.
//
// `node sse.mjs BIN_DIR PYTHON`; SEED=n repeats a run.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { startProxy } from './proxy.mjs';
import { atEnd, check, conclude, freePorts, limit, start, startRedis, until } from './stage.mjs';
import { textFor } from './text.mjs';

const [binDir, python] = process.argv.slice(2);
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const here = fileURLToPath(new URL('.', import.meta.url));
const run = `clients-e2e-${seed}`;
const agents = { 'var-1': seed, 'var-2': seed + 1000 };
const clients = {
  eventsource: [process.execPath, path.join(here, 'client-eventsource.mjs')],
  'eventsource-client': [process.execPath, path.join(here, 'client-eventsource-client.mjs')],
  'httpx-sse': [python, path.join(here, 'client_httpx_sse.py')],
};
const SECONDS_OF_SPEECH = 10;
const CUTS = 6;

limit(55_000);
console.log(`clients-e2e: seed ${seed}, ${CUTS} cuts for each client`);
await conclude(async () => {
  const { fanout } = await startServices();
  const readers = await Promise.all(
    Object.entries(clients).map(([name, command], index) => startReader(name, command, fanout, index)),
  );
  // How soon a client comes back is its own affair, so the agents end only when every cut was made.
  const folder = mkdtempSync(path.join(tmpdir(), 'runcast-cuts-'));
  atEnd(() => rmSync(folder, { recursive: true, force: true }));
  const allCut = path.join(folder, 'all-cut');
  Promise.all(readers.map(({ proxy }) => proxy.allCut)).then(() => writeFileSync(allCut, ''));
  const writers = Object.entries(agents).map(([variation, agentSeed]) => startAgent(variation, agentSeed, allCut));
  for (const { name, exit } of writers) {
    exit.then((code) => code === 0 || console.error(`clients-e2e: ${name} exited with ${code}`));
  }
  for (const reader of readers) judge(reader, await reader.exit);
});

async function startServices() {
  await startRedis();
  const [fanout, admin] = await freePorts(2);
  start('fanout', path.join(binDir, 'runcast-fanout'), [], {
    needed: true,
    env: { RUNCAST__HTTP__LISTEN: `127.0.0.1:${fanout}`, RUNCAST__ADMIN__LISTEN: `127.0.0.1:${admin}` },
  });
  await until('the fan-out is ready', async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok);
  return { fanout };
}

function startAgent(variation, agentSeed, lastPieceAfter) {
  const agent = [process.execPath, path.join(here, 'agent.mjs'), agentSeed, SECONDS_OF_SPEECH, lastPieceAfter];
  return start(
    `sidecar ${variation}`,
    path.join(binDir, 'runcast-sidecar'),
    ['--run', run, '--variation', variation, 'exec', '--', ...agent],
    { env: { RUNCAST__RUN__VARIATIONS: Object.keys(agents).length } },
  );
}

async function startReader(name, [command, ...args], fanout, index) {
  const proxy = await startProxy({ target: fanout, seed: seed + index, cuts: CUTS });
  atEnd(() => proxy.close());
  const url = `http://127.0.0.1:${proxy.port}/v1/runs/${run}/events?channels=output,logs,status,metrics`;
  return { name, proxy, ...start(name, command, [...args, url], { transcript: true }) };
}

function judge({ name, proxy, out }, code) {
  const told = (what, problem) => check(name, what, problem);
  let seen;
  try {
    seen = JSON.parse(readFileSync(out, 'utf8'));
  } catch {
    return told('reads the run', `it exited with ${code} and told nothing`);
  }

  // The first connection may be cut before it was given an id; after that every request has one.
  const first = proxy.requests.findIndex(Boolean);
  const without = first < 0 ? proxy.requests.length : proxy.requests.slice(first).filter((id) => !id).length;
  const resumed = proxy.requests.filter(Boolean).length;
  told(
    `was cut ${proxy.cut} times and resumed ${resumed} times by its own Last-Event-ID`,
    (proxy.cut < CUTS && `only ${proxy.cut} cuts of ${CUTS} happened`)
      || (without && `${without} of ${proxy.requests.length} requests came without the id`)
      || (resumed < CUTS - 1 && `it resumed only ${resumed} times`),
  );
  for (const [variation, agentSeed] of Object.entries(agents)) {
    const text = textFor(agentSeed);
    told(`${variation} is the agent's text, all ${Buffer.byteLength(text)} bytes`, difference(seen.text[variation] ?? '', text));
  }
  told('saw no event out of its order, none of unknown kind', seen.problems.slice(0, 3).join('; '));
  const states = Object.keys(agents).map((variation) => `${variation}=${seen.ends[0]?.variations?.[variation]}`).join(' ');
  told(
    'was told the end once, then stopped on 204',
    (seen.ends.length !== 1 && `${seen.ends.length} end events`)
      || (seen.ends[0].state !== 'succeeded' && `the run ended as ${seen.ends[0].state}: ${states}`)
      || (seen.stopped !== '204' && `it stopped on ${seen.stopped}`),
  );
}

/** Where `got` leaves `wanted`, for a person to see; null if it does not. */
function difference(got, wanted) {
  if (got === wanted) return null;
  let at = 0;
  while (at < got.length && got[at] === wanted[at]) at++;
  const around = (text) => JSON.stringify(text.slice(Math.max(0, at - 30), at + 40));
  return `differs at character ${at} of ${wanted.length} (it has ${got.length})\n`
    + `       wanted …${around(wanted)}…\n       got    …${around(got)}…`;
}
