// Starts a Redis, a fan-out and two agents under sidecars, lets each client read the run through a
// proxy that cuts it off again and again, and compares what it saw with what the agents wrote.
//
// `node run.mjs BIN_DIR PYTHON`; SEED=n repeats a run.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, openSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startProxy } from './proxy.mjs';
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
const LIMIT_MS = 55_000;

const dir = mkdtempSync(path.join(tmpdir(), 'runcast-clients-'));
const started = []; // processes, oldest first
const proxies = [];
let environment = process.env;
let passed = 0;
let failed = 0;

process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130));
process.on('uncaughtException', (error) => {
  console.error(`clients-e2e: ${error.message}`);
  process.exit(1);
});
setTimeout(() => {
  console.error(`clients-e2e: not done after ${LIMIT_MS / 1000} s; still running: ${alive().join(', ')}`);
  tellLogs();
  process.exit(1);
}, LIMIT_MS).unref();

console.log(`clients-e2e: seed ${seed}, ${CUTS} cuts for each client`);
try {
  const { fanout } = await startServices();
  const readers = await Promise.all(
    Object.entries(clients).map(([name, command], index) => startReader(name, command, fanout, index)),
  );
  const writers = Object.entries(agents).map(([variation, agentSeed]) => startAgent(variation, agentSeed));
  for (const [variation, writer] of Object.entries(writers)) {
    writer.exit.then((code) => code === 0 || console.error(`clients-e2e: sidecar ${variation} exited with ${code}`));
  }
  for (const reader of readers) judge(reader, await reader.exit);
} catch (error) {
  failed++;
  console.error(`FAILED ${error.message}`);
}
if (failed) tellLogs();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);

async function startServices() {
  const [redis, fanout, admin] = await freePorts(3);
  environment = {
    ...process.env,
    RUNCAST__REDIS__URL: `redis://127.0.0.1:${redis}`,
    NO_PROXY: '127.0.0.1',
  };
  start('redis', 'redis-server', ['--port', redis, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', dir]);
  await until('redis answers', () => connects(redis));
  start('fanout', path.join(binDir, 'runcast-fanout'), [], {
    RUNCAST__HTTP__LISTEN: `127.0.0.1:${fanout}`,
    RUNCAST__ADMIN__LISTEN: `127.0.0.1:${admin}`,
  });
  await until('the fan-out is ready', async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok);
  return { fanout };
}

function startAgent(variation, agentSeed) {
  const agent = [process.execPath, path.join(here, 'agent.mjs'), agentSeed, SECONDS_OF_SPEECH];
  return start(
    `sidecar ${variation}`,
    path.join(binDir, 'runcast-sidecar'),
    ['--run', run, '--variation', variation, 'exec', '--', ...agent],
    { RUNCAST__RUN__VARIATIONS: Object.keys(agents).length },
  );
}

async function startReader(name, [command, ...args], fanout, index) {
  const proxy = await startProxy({ target: fanout, seed: seed + index, cuts: CUTS });
  proxies.push(proxy);
  const url = `http://127.0.0.1:${proxy.port}/v1/runs/${run}/events?channels=output,logs,status,metrics`;
  return { name, proxy, ...start(name, command, [...args, url]) };
}

function judge({ name, proxy, out }, code) {
  const check = (what, problem) => {
    if (problem) failed++;
    else passed++;
    console.log(problem ? `FAILED ${name}: ${what}\n       ${problem}` : `ok     ${name}: ${what}`);
  };
  let seen;
  try {
    seen = JSON.parse(readFileSync(out, 'utf8'));
  } catch {
    return check('reads the run', `it exited with ${code} and told nothing`);
  }

  // The first connection may be cut before it was given an id; after that every request has one.
  const first = proxy.requests.findIndex(Boolean);
  const without = first < 0 ? proxy.requests.length : proxy.requests.slice(first).filter((id) => !id).length;
  const resumed = proxy.requests.filter(Boolean).length;
  check(
    `was cut ${proxy.cut} times and resumed ${resumed} times by its own Last-Event-ID`,
    (proxy.cut < CUTS && `only ${proxy.cut} cuts of ${CUTS} happened`)
      || (without && `${without} of ${proxy.requests.length} requests came without the id`)
      || (resumed < CUTS - 1 && `it resumed only ${resumed} times`),
  );
  for (const [variation, agentSeed] of Object.entries(agents)) {
    const text = textFor(agentSeed);
    check(`${variation} is the agent's text, all ${Buffer.byteLength(text)} bytes`, difference(seen.text[variation] ?? '', text));
  }
  check('saw no event out of its order, none of unknown kind', seen.problems.slice(0, 3).join('; '));
  const states = Object.keys(agents).map((variation) => `${variation}=${seen.ends[0]?.variations?.[variation]}`).join(' ');
  check(
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

// Each process leads a group of its own, so that its children can be ended with it.
function start(name, command, args, more = {}) {
  const out = path.join(dir, `${name.replace(' ', '-')}.out`);
  const err = path.join(dir, `${name.replace(' ', '-')}.err`);
  const child = spawn(command, args.map(String), {
    env: { ...environment, ...Object.fromEntries(Object.entries(more).map(([key, value]) => [key, String(value)])) },
    stdio: ['ignore', openSync(out, 'w'), openSync(err, 'w')],
    detached: true,
  });
  const process_ = { name, child, out, err, over: false };
  process_.exit = new Promise((resolve) => {
    child.on('error', (error) => {
      console.error(`clients-e2e: cannot start ${name}: ${error.message}`);
      process_.over = true;
      resolve(-1);
    });
    child.on('exit', (code, signal) => {
      process_.over = true;
      resolve(code ?? signal);
    });
  });
  started.push(process_);
  return process_;
}

function alive() {
  return started.filter(({ over }) => !over).map(({ name }) => name);
}

function tellLogs() {
  for (const { name, err, out } of started) {
    const tail = [err, name in clients ? null : out]
      .map((file) => (file ? readFileSync(file, 'utf8') : ''))
      .join('')
      .trimEnd().split('\n').slice(-8);
    if (tail.some(Boolean)) console.error(`--- last lines of ${name}\n${tail.map((line) => line.slice(0, 300)).join('\n')}`);
  }
}

function cleanUp() {
  proxies.forEach((proxy) => proxy.close());
  for (const { child, over } of started.reverse()) {
    if (!child.pid) continue;
    try {
      // A group outlives its leader as long as one of its members does.
      process.kill(-child.pid, over ? 0 : 'SIGKILL');
      if (over) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // Nobody left.
    }
  }
  rmSync(dir, { recursive: true, force: true });
}

async function until(what, holds) {
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(50)) {
    if (await Promise.resolve().then(holds).catch(() => false)) return;
    const dead = started.find(({ over, name }) => over && (name === 'redis' || name === 'fanout'));
    if (dead) throw new Error(`${dead.name} ended before ${what}`);
  }
  throw new Error(`waited 10 s in vain: ${what}`);
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

// Held open together, so that they differ.
async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
