// Starts a Redis, a control-plane, a fan-out and agents under sidecars, and lets gRPC clients of other makes
// steer the agents. The clients tell their checks as lines of JSON.
//
// `node control.mjs BIN_DIR PYTHON STUBS`, where STUBS holds Python's stubs of proto/.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, conclude, freePorts, limit, start, startRedis, until } from './stage.mjs';

const [binDir, python, stubs] = process.argv.slice(2);
const here = fileURLToPath(new URL('.', import.meta.url));
// Pages of this origin may call over gRPC-Web.
const ORIGIN = 'https://app.example.com';
// Twenty numbers a second for as long as nobody stops it; sleep is a second process of its group.
const COUNTING = 'i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done';

limit(60_000);
await conclude(async () => {
  const { control, fanout } = await startServices();
  const clients = [
    client('grpcio', python, ['client_grpcio.py', control, `http://${fanout}`], { PYTHONPATH: stubs }),
    client('grpc-web', process.execPath, ['client-grpc-web.mjs', `http://${control}`, ORIGIN]),
  ];
  for (const { run } of clients) startAgent(run);
  for (const one of clients) judge(one, await one.exit);
});

async function startServices() {
  await startRedis();
  const [control, controlAdmin, fanout, fanoutAdmin] = (await freePorts(4)).map((port) => `127.0.0.1:${port}`);
  start('control', path.join(binDir, 'runcast-control'), [], {
    needed: true,
    env: {
      RUNCAST__GRPC__LISTEN: control,
      RUNCAST__ADMIN__LISTEN: controlAdmin,
      RUNCAST__CORS__ORIGINS: `https://other.example.com,${ORIGIN}`,
    },
  });
  start('fanout', path.join(binDir, 'runcast-fanout'), [], {
    needed: true,
    env: { RUNCAST__HTTP__LISTEN: fanout, RUNCAST__ADMIN__LISTEN: fanoutAdmin },
  });
  for (const [name, admin] of Object.entries({ 'control-plane': controlAdmin, 'fan-out': fanoutAdmin })) {
    await until(`the ${name} is ready`, async () => (await fetch(`http://${admin}/readyz`)).ok);
  }
  return { control, fanout };
}

// Each client has a run of its own, which is the last of its arguments.
function client(name, command, [script, ...args], env = {}) {
  const run = `clients-e2e-${name}`;
  return { run, ...start(name, command, [path.join(here, script), ...args, run], { env, transcript: true }) };
}

function startAgent(run) {
  const args = ['--run', run, '--variation', 'var-1', 'exec', '--', 'sh', '-c', COUNTING];
  start(`sidecar ${run}`, path.join(binDir, 'runcast-sidecar'), args, { env: { RUNCAST__RUN__VARIATIONS: 1 } });
}

function judge({ name, out }, code) {
  const told = readFileSync(out, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
  for (const { what, problem } of told) check(name, what, problem);
  check(name, 'came to its end', code !== 0 && `it exited with ${code} after ${told.length} checks`);
}
