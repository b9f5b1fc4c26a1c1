// What a test stands on: processes on free ports, checks that are counted, and an end that leaves nothing
// behind.

import { spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const dir = mkdtempSync(path.join(tmpdir(), 'runcast-clients-'));
const started = []; // processes, oldest first
const ends = [];
const environment = { ...process.env, NO_PROXY: '127.0.0.1' };
let passed = 0;
let failed = 0;

process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130));
process.on('uncaughtException', (error) => {
  console.error(`clients-e2e: ${error.message}`);
  process.exit(1);
});

/** Gives up after so long, and says what is still running. */
export function limit(ms) {
  setTimeout(() => {
    console.error(`clients-e2e: not done after ${ms / 1000} s; still running: ${alive().join(', ')}`);
    tellLogs();
    process.exit(1);
  }, ms).unref();
}

/** Runs the test and exits with what came of it. */
export async function conclude(test) {
  try {
    await test();
  } catch (error) {
    failed++;
    console.error(`FAILED ${error.message}`);
  }
  if (failed) tellLogs();
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}

/** Counts a check of `who`, and tells it; `problem` is what is wrong, if anything is. */
export function check(who, what, problem) {
  if (problem) failed++;
  else passed++;
  console.log(problem ? `FAILED ${who}: ${what}\n       ${problem}` : `ok     ${who}: ${what}`);
}

/** Calls `close` however the test ends. */
export function atEnd(close) {
  ends.push(close);
}

/**
 * Starts a process that leads a group of its own, so that its children can be ended with it. A `needed`
 * one must not end before the test; a `transcript` on standard output is not shown as a log.
 */
export function start(name, command, args, { env = {}, needed = false, transcript = false } = {}) {
  const out = path.join(dir, `${name.replace(' ', '-')}.out`);
  const err = path.join(dir, `${name.replace(' ', '-')}.err`);
  const child = spawn(command, args.map(String), {
    env: { ...environment, ...Object.fromEntries(Object.entries(env).map(([key, value]) => [key, String(value)])) },
    stdio: ['ignore', openSync(out, 'w'), openSync(err, 'w')],
    detached: true,
  });
  const process_ = { name, child, out, err, needed, transcript, over: false };
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

/** Starts a Redis, which all that is started later uses. */
export async function startRedis() {
  const [port] = await freePorts(1);
  environment.RUNCAST__REDIS__URL = `redis://127.0.0.1:${port}`;
  const args = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', dir];
  start('redis', 'redis-server', args, { needed: true });
  await until('redis answers', () => connects(port));
}

/** Waits until `holds` does, 10 s at most. */
export async function until(what, holds) {
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(50)) {
    if (await Promise.resolve().then(holds).catch(() => false)) return;
    const dead = started.find(({ over, needed }) => over && needed);
    if (dead) throw new Error(`${dead.name} ended before ${what}`);
  }
  throw new Error(`waited 10 s in vain: ${what}`);
}

/** Ports that are free. Held open together, so that they differ. */
export async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, () => new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  })));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

function alive() {
  return started.filter(({ over }) => !over).map(({ name }) => name);
}

function tellLogs() {
  for (const { name, err, out, transcript } of started) {
    const tail = [err, transcript ? null : out]
      .map((file) => (file ? readFileSync(file, 'utf8') : ''))
      .join('')
      .trimEnd().split('\n').slice(-8);
    if (tail.some(Boolean)) console.error(`--- last lines of ${name}\n${tail.map((line) => line.slice(0, 300)).join('\n')}`);
  }
}

function cleanUp() {
  ends.forEach((close) => close());
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
