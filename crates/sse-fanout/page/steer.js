// Commands to agents: gRPC-Web over fetch. The few fields of SendCommand that the page needs are
// written by hand, after proto/runcast/control/v1/{command,command_service}.proto.

import { authorized } from './token.js';

const METHOD = '/runcast.control.v1.CommandService/SendCommand';
const GRACE_SECONDS = 10;
const TRAILERS = 0x80;

// Field numbers: SendCommandRequest …
const PARENT = 1, VARIATION_IDS = 2, COMMAND = 3, REQUEST_ID = 6;
// … Command's actions, StopAction and Duration.
const ACTIONS = { pause: 2, resume: 3, stop: 4 };
const GRACE_PERIOD = 1, SECONDS = 1;

const text = new TextEncoder();

/** Sends `pause`, `resume` or `stop` to a variation of a run; throws with what the control-plane says. */
export async function send(controlUrl, run, variation, action) {
  const request = join(
    field(PARENT, text.encode(`runs/${run}`)),
    field(VARIATION_IDS, text.encode(variation)),
    field(COMMAND, field(ACTIONS[action], action === 'stop' ? grace() : new Uint8Array())),
    field(REQUEST_ID, text.encode(crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`)),
  );
  const answer = await fetch(controlUrl + METHOD, {
    method: 'POST',
    headers: authorized({
      'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1', 'grpc-timeout': '10S', 'runcast-caller': 'page',
    }),
    body: framed(request),
    signal: AbortSignal.timeout(10_000),
  });
  // An error without a message has its status in the headers, else it follows the message.
  const status = answer.headers.get('grpc-status');
  const said = status === null ? trailers(new Uint8Array(await answer.arrayBuffer())) : answer.headers;
  if ((status ?? said.get('grpc-status')) === '0') return;
  const why = said.get('grpc-message') ?? `the control-plane answered ${answer.status}`;
  throw new Error(decode(why));
}

function grace() {
  return field(GRACE_PERIOD, join(varint(SECONDS << 3), varint(GRACE_SECONDS)));
}

/** A field of bytes: text, or a message within a message. */
function field(number, bytes) {
  return join(varint((number << 3) | 2), varint(bytes.length), bytes);
}

function varint(value) {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return Uint8Array.from([...bytes, value]);
}

function join(...parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** A message as gRPC frames it: no compression, its length, itself. */
function framed(message) {
  const head = new DataView(new ArrayBuffer(5));
  head.setUint32(1, message.length);
  return join(new Uint8Array(head.buffer), message);
}

function trailers(body) {
  const view = new DataView(body.buffer);
  for (let at = 0; at + 5 <= body.length; at += 5 + view.getUint32(at + 1)) {
    if (!(body[at] & TRAILERS)) continue;
    const lines = new TextDecoder().decode(body.subarray(at + 5, at + 5 + view.getUint32(at + 1))).split('\r\n');
    return new Map(lines.filter(Boolean).map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }));
  }
  return new Map();
}

function decode(message) {
  try {
    return decodeURIComponent(message);
  } catch {
    return message; // As it came is better than nothing.
  }
}
