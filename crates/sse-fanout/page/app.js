// The live view of a run.

import { Board } from './board.js';
import { Column } from './column.js';
import { Logs } from './logs.js';
import { Positions } from './positions.js';
import { send } from './steer.js';
import { RunStream } from './stream.js';
import { Timeline } from './timeline.js';

const CHANNELS = {
  output: 'output', log: 'logs', status: 'status', metric: 'metrics', control: 'control', ack: 'acks',
};

const controlUrl = document.querySelector('meta[name=runcast-control]').content;
const replayUrl = document.querySelector('meta[name=runcast-replay]').content;
const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const runId = runFromPage();
if (runId) watch(runId);
else askForRun();

function runFromPage() {
  const path = /^\/runs\/([^/]+)\/?$/.exec(location.pathname);
  let id = query.get('run') ?? '';
  try {
    if (path) id = decodeURIComponent(path[1]);
  } catch {
    // A path that is no UTF-8 names no run.
  }
  return /^[A-Za-z0-9._-]{1,128}$/.test(id) ? id : null;
}

function askForRun() {
  $('landing').hidden = false;
  $('run-id').value = query.get('run') ?? '';
  $('run-id').focus();
}

function watch(run) {
  const columns = new Board($('columns'), (id, hue) => {
    const fresh = new Column(id, hue);
    if (controlUrl) fresh.steer((action) => send(controlUrl, run, id, action));
    logs.know(id, hue);
    $('empty').hidden = true;
    return fresh;
  });
  const column = (id) => columns.get(id);
  const positions = new Positions();
  const logs = new Logs($('logs'));
  let announced = 0; // variations that the run says it has
  let frame = 0;
  const timeline = replayUrl ? new Timeline({
    replayUrl, run, variations: query.get('variations'), hue: (id) => columns.hue(id), summary: takeSummary,
  }) : null;

  $('board').hidden = $('link').hidden = false;
  $('run').textContent = run;
  $('run').title = run;

  const url = new URL(`/v1/runs/${encodeURIComponent(run)}/events`, location.href);
  url.searchParams.set('channels', 'output,logs,status,metrics,control,acks');
  for (const name of ['from', 'variations']) if (query.has(name)) url.searchParams.set(name, query.get(name));

  const stream = new RunStream(url, {
    event(name, data) {
      take(name, data);
      if (!frame) frame = requestAnimationFrame(flush);
    },
    state: showState,
    refused(text) {
      $('trouble').textContent = text;
      $('trouble').hidden = false;
      $('empty').hidden = true;
    },
  });
  $('drop').addEventListener('click', () => stream.drop());
  showState(stream.state);
  setInterval(refresh, 200);
  refresh();

  function take(name, data) {
    if (name in CHANNELS) {
      const lane = `${CHANNELS[name]}/${data.writer ?? data.variation_id}`;
      // Of the control-plane's lanes only what is about the chosen variations is shown.
      const sparse = data.writer !== undefined && query.has('variations');
      // Messages that were missed may come as one: the last, with the text of all since the first.
      if (positions.isNext(lane, data.first_sequence ?? data.sequence, data.sequence, sparse)) message(name, data);
    } else if (name === 'snapshot') {
      positions.set(data.lane, data.last);
      const [channel, writer] = split(data.lane);
      if (typeof data.text === 'string') column(writer).say(data.text, null);
      else if (data.message && channel === 'status') message('status', data.message);
    } else if (name === 'gap') {
      positions.set(data.lane, data.last);
      gap(data);
    } else if (name === 'start') {
      positions.startAnywhere();
    } else if (name === 'end') {
      for (const [id, state] of Object.entries(data.variations ?? {})) column(id).become({ state });
      timeline?.end();
      announce(`The run has ended${data.state ? `: ${data.state}` : ''}.`);
    }
  }

  function message(name, data) {
    const at = Date.parse(data.timestamp) || Date.now();
    timeline?.seen(at);
    const target = column(data.variation_id);
    if (name === 'output') target.say(data.content, at);
    else if (name === 'log') logs.add(data);
    else if (name === 'metric') target.measure(data.content);
    else if (name === 'ack') target.commands.take(data.content ?? {}, at);
    else if (name === 'control') {
      if (data.writer) target.commands.take(data.content ?? {}, at);
      else letter(data);
    }
    else if (data.content && typeof data.content === 'object') {
      if (Number.isInteger(data.content.variations)) announced = data.content.variations;
      if (target.become(data.content, at)) announce(`${data.variation_id}: ${target.state}`);
    }
  }

  function letter({ variation_id: from, content }) {
    const text = JSON.stringify(content?.payload ?? null);
    logs.remark(from, `wrote to ${content?.to ?? 'all'}: ${text.length > 200 ? `${text.slice(0, 200)}…` : text}`);
  }

  function gap(data) {
    const [channel, writer] = split(data.lane);
    if (channel === 'output') column(writer).gap(data);
    else logs.remark(writer, `${channel} ${data.first}–${data.last} are no longer available: ${data.reason}`);
  }

  // What is known of the run as a whole comes before its history, which may be long.
  function takeSummary({ variations }) {
    const chosen = query.get('variations')?.split(',');
    for (const [id, { state, exit_code, reason }] of Object.entries(variations ?? {})) {
      if (chosen && !chosen.includes(id)) continue;
      const known = columns.has(id) && column(id).isOver;
      if (!known && typeof state === 'string') column(id).become({ state, exit_code, reason });
    }
  }

  function flush() {
    frame = 0;
    for (const each of columns) each.flush();
    logs.flush();
  }

  function refresh() {
    const now = Date.now();
    let chars = 0;
    let over = 0;
    for (const each of columns) {
      each.refresh(now);
      chars += each.chars;
      over += each.isOver;
    }
    const all = Math.max(announced, columns.size);
    show('summary', all ? `${over} of ${all} done · ${chars.toLocaleString()} chars` : '');
    show('fact-reconnects', stream.reconnects);
    show('fact-events', stream.events.toLocaleString());
    show('fact-missing', positions.missing);
    show('fact-repeated', positions.repeated);
    show('fact-id', stream.lastId.replaceAll(',', ',\n') || 'none yet');
  }

  function showState(state) {
    $('state').dataset.state = state;
    $('state-text').textContent = state;
    $('drop').disabled = state === 'ended' || state === 'refused';
    document.title = `${state === 'live' ? '● ' : ''}${run} · Runcast`;
    if (state !== 'connecting') announce(`Connection: ${state}`);
  }
}

function announce(text) {
  $('announce').textContent = text;
}

function show(id, value) {
  const text = String(value);
  if ($(id).textContent !== text) $(id).textContent = text;
}

function split(lane) {
  const slash = lane.indexOf('/');
  return [lane.slice(0, slash), lane.slice(slash + 1)];
}
