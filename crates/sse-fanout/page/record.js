// A run's past: each lane's messages by time, within a bound on memory.

import { readLines } from './ndjson.js';
import { authorized } from './token.js';
import { Track } from './track.js';

const CHANNELS = { output: 'output', log: 'logs', status: 'status', metric: 'metrics', control: 'control', ack: 'acks' };
const ORDER = Object.values(CHANNELS); // of positions in a cursor
export const MOST_CHARS = 64 << 20;

export class Record {
  tracks = new Map(); // lane → Track
  begin = Infinity;   // when the first message was said, in ms
  end = -Infinity;    // … and the last
  from = -Infinity;   // moments before this can no longer be shown
  #url;
  #variations;
  #most;
  #chars = 0;
  #loading = null;

  /** Reads from the replay service at `url`; `variations` chooses some, `most` bounds the text that is kept. */
  constructor(url, run, variations, most = MOST_CHARS) {
    this.#url = `${url}/v1/runs/${encodeURIComponent(run)}/messages`;
    this.#variations = variations;
    this.#most = most;
  }

  /** Reads what there is after what is known. Resolves to whether there was any; `progress()` is called as it comes. */
  load(progress = () => {}) {
    this.#loading ??= this.#load(progress).finally(() => { this.#loading = null; });
    return this.#loading;
  }

  get isLoading() {
    return this.#loading !== null;
  }

  async #load(progress) {
    const url = new URL(this.#url);
    url.searchParams.set('channels', 'output,status,control,acks');
    url.searchParams.set('limit', 'all');
    if (this.#variations) url.searchParams.set('variations', this.#variations);
    const after = this.cursor();
    if (after) url.searchParams.set('after', after);
    const answer = await fetch(url, { headers: authorized({ accept: 'application/x-ndjson' }) });
    if (!answer.ok) throw new Error(`the replay service answered ${answer.status}`);
    let count = 0;
    await readLines(answer.body, (message) => {
      if (this.take(message)) count++;
      if (count % 1000 === 1) progress();
    });
    progress();
    return count > 0;
  }

  /** Takes a message; false if it is known. */
  take(message) {
    const { type, variation_id: variation, writer = variation, sequence, timestamp, content } = message;
    if (!(type in CHANNELS)) return false;
    const lane = `${CHANNELS[type]}/${writer}`;
    let track = this.tracks.get(lane);
    if (!track) this.tracks.set(lane, track = new Track(CHANNELS[type], writer));
    if (sequence <= track.last) return false;
    track.last = sequence;
    const text = type === 'output' ? String(content) : '';
    let chars = 0;
    for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) !== 0xdc00) chars++;
    const at = track.add(Date.parse(timestamp) || 0, type === 'output' ? text : { variation, writer: message.writer, content }, chars);
    this.begin = Math.min(this.begin, at);
    this.end = Math.max(this.end, at);
    this.#chars += text.length;
    while (this.#chars > this.#most && this.#dropOldest());
    return true;
  }

  /** Where all its lanes stand, as the service takes it; empty at the beginning. */
  cursor() {
    const writers = new Map();
    for (const { channel, writer, last } of this.tracks.values()) {
      if (!writers.has(writer)) writers.set(writer, []);
      writers.get(writer)[ORDER.indexOf(channel)] = last;
    }
    return [...writers].map(([writer, lasts]) => `${writer}:${Array.from(lasts, (n) => n ?? 0).join('.')}`).join(',');
  }

  /** The lanes of a channel. */
  of(channel) {
    return [...this.tracks.values()].filter((track) => track.channel === channel);
  }

  #dropOldest() {
    const oldest = this.of('output').reduce((a, b) => (b.oldest < (a?.oldest ?? Infinity) ? b : a), null);
    const text = oldest?.drop();
    if (text === undefined) return false;
    this.#chars -= text.length;
    this.from = Math.max(this.from, oldest.oldest);
    return true;
  }
}
