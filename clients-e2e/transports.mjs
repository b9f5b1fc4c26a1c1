// One run over every way there is to it: HTTP/1.1 and HTTP/2, with and without TLS, compressed, and
// WebSockets. All must bring the same events, as they come.
//
// `node transports.mjs BIN_DIR PYTHON`; SEED=n repeats a run.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { atEnd, check, conclude, freePorts, limit, start, startRedis, until } from './stage.mjs';

const [binDir, python] = process.argv.slice(2);
const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
const here = fileURLToPath(new URL('.', import.meta.url));
const run = `transports-${seed}`;
const events = `/v1/runs/${run}/events?channels=output,status`;
const socket = `/v1/runs/${run}/ws?channels=output,status`;
const SECONDS_OF_SPEECH = 3;

limit(55_000);
await conclude(async () => {
  await startRedis();
  const folder = mkdtempSync(path.join(tmpdir(), 'runcast-tls-'));
  atEnd(() => rmSync(folder, { recursive: true, force: true }));
  const [certificate, key] = [path.join(folder, 'cert.pem'), path.join(folder, 'key.pem')];
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1',
    '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-out', certificate, '-keyout', key,
  ], { stdio: 'ignore' });
  const plain = await startFanout('fanout plain', { RUNCAST__SSE__COMPRESSION: 'zstd,gzip' });
  const tls = await startFanout('fanout tls', { RUNCAST__TLS__CERTIFICATE_FILE: certificate, RUNCAST__TLS__KEY_FILE: key });

  const client = path.join(here, 'client_transports.py');
  const curl = ['-sSN', '--noproxy', '*', '--max-time', 40];
  const ways = {
    'curl over HTTP/1.1': ['curl', ...curl, `http://127.0.0.1:${plain}${events}`],
    'curl over HTTP/2': ['curl', ...curl, '--http2-prior-knowledge', `http://127.0.0.1:${plain}${events}`],
    'curl over HTTP/2 and TLS': ['curl', ...curl, '--http2', '--cacert', certificate, `https://localhost:${tls}${events}`],
    'curl, compressed': ['curl', ...curl, '--compressed', `http://127.0.0.1:${plain}${events}`],
    'httpx over HTTP/2': [python, client, 'http2', `http://127.0.0.1:${plain}${events}`],
    'httpx over HTTP/2 and TLS': [python, client, 'http2', `https://localhost:${tls}${events}`, certificate],
    'httpx with gzip': [python, client, 'gzip', `http://127.0.0.1:${plain}${events}`],
    'httpx with zstd': [python, client, 'zstd', `http://127.0.0.1:${plain}${events}`],
    'httpx with zstd over HTTP/2': [python, client, 'http2-zstd', `http://127.0.0.1:${plain}${events}`],
    'websockets': [python, client, 'websocket', `ws://127.0.0.1:${plain}${socket}`],
    'websockets over TLS': [python, client, 'websocket', `wss://localhost:${tls}${socket}`, certificate],
  };
  const readers = Object.entries(ways).map(([name, [command, ...args]], number) => (
    { ...start(`reader ${number}`, command, args, { transcript: true }), name }));
  const fetched = read(`http://127.0.0.1:${plain}${events}`);
  const agent = [process.execPath, path.join(here, 'agent.mjs'), seed, SECONDS_OF_SPEECH];
  const sidecar = ['--run', run, '--variation', 'var-1', 'exec', '--', ...agent];
  start('sidecar', path.join(binDir, 'runcast-sidecar'), sidecar);

  const wanted = await fetched;
  told('fetch, compressed', wanted, wanted);
  for (const reader of readers) {
    const code = await reader.exit;
    const text = readFileSync(reader.out, 'utf8');
    const seen = reader.name.startsWith('curl') ? { list: parse(text), seconds: Infinity } : lines(text);
    told(reader.name, seen, wanted, code && `it exited with ${code}`);
  }
});

async function startFanout(name, env) {
  const [port, admin] = await freePorts(2);
  start(name, path.join(binDir, 'runcast-fanout'), [], {
    needed: true,
    env: { RUNCAST__HTTP__LISTEN: `127.0.0.1:${port}`, RUNCAST__ADMIN__LISTEN: `127.0.0.1:${admin}`, ...env },
  });
  await until(`${name} is ready`, async () => (await fetch(`http://127.0.0.1:${admin}/readyz`)).ok);
  return port;
}

/** What Node's `fetch` sees, which asks for gzip. */
async function read(url) {
  const answer = await fetch(url);
  let text = '';
  const times = [];
  for await (const bytes of answer.body.pipeThrough(new TextDecoderStream())) {
    text += bytes;
    times.push(performance.now());
  }
  if (answer.headers.get('content-encoding') !== 'gzip') throw new Error('fetch was given no gzip');
  return { list: parse(text), seconds: (times.at(-1) - times[0]) / 1000 };
}

function parse(text) {
  return text.split('\n\n').filter((frame) => frame.includes('data: ')).map((frame) => {
    // Not by a regular expression: to those a U+2028 within the data is the end of a line.
    const field = (name) => frame.split('\n').find((line) => line.startsWith(`${name}: `)).slice(name.length + 2);
    return [field('id'), field('event'), JSON.parse(field('data'))];
  });
}

function lines(text) {
  const list = text.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return { seconds: typeof list.at(-1) === 'number' ? list.pop() : 0, list };
}

function told(name, { list, seconds }, wanted, failed) {
  const outputs = (events) => JSON.stringify(events.filter(([, name]) => name !== 'status').map(([, ...rest]) => rest));
  check(
    name,
    `brings the same ${wanted.list.length} events${seconds < Infinity ? ' as they come' : ''}`,
    failed || (outputs(list) !== outputs(wanted.list) && `it brought ${list.length} others`)
      || (seconds < SECONDS_OF_SPEECH / 2 && `all within ${seconds} s`),
  );
}
