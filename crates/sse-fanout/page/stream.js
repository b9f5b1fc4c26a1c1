// The connection: an EventSource that is reopened when the browser gives up, and knows its place.

import { authorized, ticket, token } from './token.js';

const EVENTS = ['output', 'log', 'status', 'metric', 'control', 'ack', 'snapshot', 'start', 'gap', 'end'];
const PAUSE_MIN = 500;
const PAUSE_MAX = 15_000;

/**
 * Follows `url`, resuming by the last event's id. Calls `on.event(name, data)` with parsed data,
 * `on.state(state)` with connecting, live, reconnecting, ended or refused, and `on.refused(text)`
 * when the server says that asking again is no use.
 */
export class RunStream {
  reconnects = 0;
  events = 0;
  lastId = '';
  state = 'connecting';
  #url;
  #on;
  #source = null;
  #pause = PAUSE_MIN;
  #timer = 0;
  #opened = false;
  #turn = 0; // counts attempts, so that one that was given up is known

  constructor(url, on) {
    this.#url = url;
    this.#on = on;
    this.#open();
  }

  /** Closes the connection and comes back to the same place. */
  drop() {
    if (this.state === 'ended') return;
    this.#close();
    this.#become('reconnecting');
    this.#later(700); // long enough to be seen
  }

  async #open() {
    const turn = ++this.#turn;
    const url = new URL(this.#url);
    if (this.lastId) {
      url.searchParams.set('after', this.lastId);
      url.searchParams.delete('from');
    }
    if (token) {
      // A ticket is good for one connection; a reconnection of the browser's own is refused, and leads to #ask.
      try {
        url.searchParams.set('ticket', await ticket());
      } catch {
        if (turn === this.#turn) this.#ask();
        return;
      }
      if (turn !== this.#turn) return;
    }
    const source = new EventSource(url);
    this.#source = source;
    source.onopen = () => {
      if (this.#opened) this.reconnects++;
      this.#opened = true;
      this.#pause = PAUSE_MIN;
      this.#become('live');
    };
    source.onerror = () => {
      if (source !== this.#source) return;
      if (source.readyState === EventSource.CLOSED) this.#ask();
      else if (this.#opened) this.#become('reconnecting');
    };
    for (const name of EVENTS) source.addEventListener(name, (event) => this.#take(name, event));
  }

  #take(name, event) {
    this.events++;
    if (event.lastEventId) this.lastId = event.lastEventId;
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      console.warn('an event that is not JSON', name, event.data);
      return;
    }
    if (name === 'end' && data.reason) {
      this.#close();
      this.#become('refused');
      const why = data.reason === 'revoked' ? 'was revoked' : 'has expired';
      this.#on.refused(`The token ${why}. Open this page with a new one after its address: #token=…`);
      return;
    }
    if (name === 'end') {
      this.#close();
      this.#become('ended');
    }
    this.#on.event(name, data);
  }

  // The browser has given up, which it does on any answer but 200, and does not tell which. 204 is
  // the end of the run; refusals are final; anything else may pass.
  async #ask() {
    this.#close();
    this.#become(this.#opened ? 'reconnecting' : 'connecting');
    const url = new URL(this.#url);
    if (this.lastId) url.searchParams.set('after', this.lastId);
    const stop = new AbortController();
    const limit = setTimeout(() => stop.abort(), 5_000);
    try {
      const answer = await fetch(url, {
        headers: authorized({ accept: 'text/event-stream' }), signal: stop.signal,
      });
      if (answer.status === 204) {
        this.#become('ended');
        this.#on.event('end', { state: null, variations: {} });
        return;
      }
      if (answer.status >= 400 && answer.status < 500 && ![408, 425, 429].includes(answer.status)) {
        const text = (await answer.text()).slice(0, 300);
        this.#become('refused');
        this.#on.refused(`The server refused the stream (${answer.status}). ${text}`);
        return;
      }
    } catch {
      // Nobody there: ask again later.
    } finally {
      clearTimeout(limit);
      stop.abort();
    }
    this.#later(this.#pause * (0.5 + Math.random()));
    this.#pause = Math.min(PAUSE_MAX, this.#pause * 2);
  }

  #later(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), ms);
  }

  #close() {
    clearTimeout(this.#timer);
    this.#turn++;
    this.#source?.close();
    this.#source = null;
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.#on.state(state);
  }
}
