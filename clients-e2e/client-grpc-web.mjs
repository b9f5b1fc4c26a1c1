// gRPC-Web with what a browser has, fetch and bytes: `node client-grpc-web.mjs CONTROL ORIGIN RUN`.
//
// Steers the run's only agent. The messages are made by protobufjs from proto/, the frames here. Tells each
// check as a line of JSON, {"what", "problem"}.

import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const [control, origin, run] = process.argv.slice(2);
const proto = fileURLToPath(new URL('../proto/', import.meta.url));
const PACKAGE = 'runcast.control.v1';
const CALLER = 'node-grpc-web';
// The bit of a frame's first byte that marks the trailers.
const TRAILERS = 0x80;

const root = new protobuf.Root();
root.resolvePath = (_, target) => (protobuf.common.get(target) ? target : path.join(proto, target));
await root.load(['command_service', 'run_service'].map((file) => `runcast/control/v1/${file}.proto`));

function check(what, problem) {
  console.log(JSON.stringify({ what, problem: problem ? String(problem) : null }));
}

const state = (message) => message.state.replace('COMMAND_STATE_', '');

/** Calls a method; its messages and its status, wherever that stands. */
async function call(service, method, fields) {
  const { requestType, responseType } = root.lookupService(`${PACKAGE}.${service}`).methods[method];
  const type = (name) => root.lookupType(`${PACKAGE}.${name}`);
  const [request, response_] = [type(requestType), type(responseType)];
  const message = request.encode(request.fromObject(fields)).finish();
  const frame = new Uint8Array(5 + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, 5);
  const response = await fetch(`${control}/${PACKAGE}.${service}/${method}`, {
    method: 'POST',
    headers: { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1', 'runcast-caller': CALLER, origin },
    body: frame,
  });
  const messages = [];
  let trailers = null;
  for await (const { flags, bytes } of framesOf(response.body)) {
    if (trailers) throw new Error('a frame after the trailers');
    if (flags & TRAILERS) trailers = readTrailers(bytes);
    else messages.push(response_.toObject(response_.decode(bytes), { enums: String }));
  }
  // Without a message the status may stand in the headers, as gRPC has it.
  const said = (name) => trailers?.get(name) ?? response.headers.get(name);
  return { response, messages, trailers, status: Number(said('grpc-status') ?? NaN), said };
}

/** Cuts a body into frames: flags (1 byte), length (4, big-endian), so many bytes. */
async function* framesOf(body) {
  let held = Buffer.alloc(0);
  for await (const chunk of body) {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 5 && held.length >= 5 + held.readUInt32BE(1)) {
      const end = 5 + held.readUInt32BE(1);
      yield { flags: held[0], bytes: held.subarray(5, end) };
      held = held.subarray(end);
    }
  }
  if (held.length) throw new Error(`${held.length} bytes are left that are no frame`);
}

function readTrailers(bytes) {
  const lines = bytes.toString('latin1').split('\r\n').filter(Boolean);
  return new Map(lines.map((line) => {
    const at = line.indexOf(':');
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
  }));
}

/** Asks as a browser does before the first call from another origin. */
async function preflight(from) {
  const { status, headers } = await fetch(`${control}/${PACKAGE}.CommandService/SendCommand`, {
    method: 'OPTIONS',
    headers: {
      origin: from,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type,x-grpc-web,x-user-agent,grpc-timeout,runcast-caller',
    },
  });
  const list = (name) => (headers.get(name) ?? '').toLowerCase().split(',').map((word) => word.trim());
  return {
    status,
    origin: headers.get('access-control-allow-origin'),
    methods: list('access-control-allow-methods'),
    allowed: list('access-control-allow-headers'),
  };
}

/** Sends a command over one call and follows it over another. */
async function steer(action, fields, result) {
  const order = { parent: `runs/${run}`, command: { [action]: fields }, ttl: { seconds: 10 } };
  const sent = await call('CommandService', 'SendCommand', order);
  check(
    `${action}: SendCommand answers with one message and status 0 in the trailers`,
    (sent.messages.length !== 1 && `${sent.messages.length} messages`)
      || (sent.trailers?.get('grpc-status') !== '0' && `trailers ${JSON.stringify([...sent.trailers ?? []])}`),
  );
  const { name, caller } = sent.messages[0].command;
  check(`${action}: names its caller`, caller !== CALLER && caller);
  const watched = await call('CommandService', 'WatchCommand', { name });
  const last = watched.messages.at(-1)?.command;
  const steps = last?.outcomes[0].steps ?? [];
  const told = steps.map(state);
  // Ending takes time, so that an agent that is told to says first that it will.
  const wanted = ['ISSUED', 'DELIVERED', ...(action === 'stop' ? ['ACCEPTED'] : []), 'APPLIED'];
  check(
    `${action}: WatchCommand tells ${wanted.join(' → ').toLowerCase()}, then status 0`,
    (String(told) !== String(wanted) && `it told ${told}`) || (watched.status !== 0 && `status ${watched.status}`),
  );
  const said = steps.at(-1)?.result?.structValue?.fields ?? {};
  check(`${action}: says what came of it`, !result(said) && JSON.stringify(said));
}

const asked = await preflight(origin);
check(
  'CORS: a preflight from a configured origin is allowed',
  (asked.status !== 200 && asked.status !== 204 && `status ${asked.status}`)
    || (asked.origin !== origin && `allow-origin ${asked.origin}`)
    || (!asked.methods.includes('post') && `allow-methods ${asked.methods}`)
    || (['content-type', 'x-grpc-web', 'runcast-caller'].some((name) => !asked.allowed.includes(name)) && `allow-headers ${asked.allowed}`),
);
const stranger = await preflight('https://evil.example.com');
check('CORS: one from another origin is not', stranger.origin !== null && `allow-origin ${stranger.origin}`);

// Begun before the run; its first message comes when there is one.
const ended = call('RunService', 'WatchRun', { name: `runs/${run}` });
for (let now; now !== 'RUN_STATE_RUNNING'; await sleep(50)) {
  now = (await call('RunService', 'GetRun', { name: `runs/${run}` })).messages[0]?.run.state;
}
await steer('pause', {}, ({ processes }) => processes?.numberValue >= 1);
await steer('resume', {}, (said) => said);
await steer('stop', { gracePeriod: { seconds: 5 } }, ({ signal }) => signal?.numberValue === 15);
const { messages, status } = await ended;
const last = messages.at(-1)?.run;
check(
  'WatchRun ends with the run: cancelled',
  (last?.state !== 'RUN_STATE_CANCELLED' && last?.state) || (status !== 0 && `status ${status}`),
);

const past = { parent: `runs/${run}`, command: { pause: {} }, ttl: { seconds: -1 } };
const bad = await call('CommandService', 'SendCommand', past);
const why = decodeURIComponent(bad.said('grpc-message') ?? '');
const details = Buffer.from(bad.said('grpc-status-details-bin') ?? '', 'base64');
check(
  'a deadline in the past is INVALID_ARGUMENT, with a reason and details, and no answer',
  (bad.status !== 3 && `status ${bad.status}`)
    || (bad.messages.length > 0 && 'it was answered')
    || (!why.startsWith('ttl: ') && `the reason is ${why}`)
    || (!details.includes('google.rpc.BadRequest') && 'there is no BadRequest in the details'),
);
const header = (name) => bad.response.headers.get(`access-control-${name}`) ?? '';
const exposed = header('expose-headers').toLowerCase();
const needed = ['grpc-status', 'grpc-message', 'grpc-status-details-bin'];
check(
  'CORS: pages may read the answer, and a status in the headers',
  (header('allow-origin') !== origin && `allow-origin ${header('allow-origin')}`)
    || (needed.some((name) => !exposed.includes(name)) && `expose-headers ${exposed}`),
);
