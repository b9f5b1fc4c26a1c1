// The slider below the columns: scrubs through what is past, and plays it.

import { clock } from './column.js';
import { Past } from './past.js';
import { Record } from './record.js';
import { authorized } from './token.js';

const STEP = 1_000;      // ms that an arrow key moves
const LEAP = 10_000;     // … and a page key
const AGAIN = 2_000;     // ms between looks for more of a run that goes on …
const AHEAD = 5_000;     // … once so much or less is left to play

const $ = (id) => document.getElementById(`timeline-${id}`);

export class Timeline {
  #record;
  #past;
  #summary;
  #over = false;
  #begin = Infinity;
  #end = -Infinity;
  #moment = null;      // the moment that is shown; null when live
  #playing = false;
  #loaded = false;     // what was past when it was read is there
  #complete = false;   // … and so is all that will ever be
  #frame = 0;
  #clock = 0;
  #asked = 0;
  #stopped = true;     // no frame before the next one to count from

  /** `hue(id)` is the number of a variation's colour; `summary(run)` takes what the service knows of the run. */
  constructor({ replayUrl, run, variations, hue, summary }) {
    this.#record = new Record(replayUrl, run, variations);
    this.#past = new Past(this.#record, document.getElementById('past'), hue);
    this.#summary = summary;
    $('play').addEventListener('click', () => this.#toggle());
    $('live').addEventListener('click', () => this.#live());
    $('slider').addEventListener('input', () => this.#go(this.#begin + $('slider').valueAsNumber));
    document.addEventListener('keydown', (event) => this.#key(event));
    setInterval(() => this.#draw(), 250);
    this.#ask(replayUrl, run);
  }

  /** The run said something at `at`, in ms. */
  seen(at) {
    if (at < this.#begin) this.#begin = at;
    if (at > this.#end) this.#end = at;
  }

  /** The run is over. */
  end() {
    this.#over = true;
    $('live').textContent = 'End';
    this.#draw();
  }

  async #ask(replayUrl, run) {
    try {
      const answer = await fetch(`${replayUrl}/v1/runs/${encodeURIComponent(run)}`, { headers: authorized() });
      if (!answer.ok) return; // What the stream tells is enough.
      const known = await answer.json();
      for (const time of [known.started, known.ended]) if (time) this.seen(Date.parse(time));
      this.#summary(known);
      if (known.ended) this.end();
    } catch {
      // Nobody there: it is asked again when somebody scrubs.
    }
  }

  #key(event) {
    const { target, key } = event;
    const own = target === $('slider');
    const button = target === $('play') || target === $('live');
    if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById('timeline').hidden) return;
    // Texts scroll with these keys, lists choose, and buttons are pressed with the space key.
    if (!own && target !== document.body && !(button && key !== ' ')) return;
    const step = event.shiftKey ? LEAP : STEP;
    const at = this.#moment ?? this.#latest();
    const moves = {
      ArrowLeft: -step, ArrowDown: own ? -step : undefined, ArrowRight: step, ArrowUp: own ? step : undefined,
      PageDown: own ? -LEAP : undefined, PageUp: own ? LEAP : undefined,
    };
    if (key === ' ') this.#toggle();
    else if (own && key === 'Home') this.#go(this.#begin);
    else if (own && key === 'End') this.#live();
    else if (moves[key] === undefined) return;
    else if (this.#moment === null && moves[key] > 0) return;
    else this.#go(at + moves[key]);
    event.preventDefault();
  }

  #toggle() {
    if (this.#playing) return this.#pause();
    // From the end it begins anew.
    this.#go(this.#moment ?? this.#begin);
    this.#playing = true;
    this.#draw();
    this.#next();
  }

  #pause() {
    this.#playing = false;
    this.#draw();
  }

  #live() {
    this.#playing = false;
    this.#moment = null;
    $('note').hidden = true;
    this.#which();
    this.#draw();
  }

  /** Shows a moment; the last one is live. */
  #go(moment) {
    if (moment >= this.#latest()) return this.#live();
    const from = Math.max(this.#begin, this.#record.from);
    this.#moment = Math.max(from, moment);
    this.#which();
    this.#load();
    this.#next();
    this.#draw();
  }

  // The last moment there is.
  #latest() {
    return this.#over ? this.#end : Math.max(this.#end, Date.now());
  }

  #which() {
    const past = this.#moment !== null;
    document.getElementById('past').hidden = !past;
    document.getElementById('columns').hidden = past;
  }

  // Reads what is past: all of it once, and what was said since when it is needed.
  async #load() {
    if (this.#complete || this.#record.isLoading) return;
    if (this.#loaded && this.#moment < this.#record.end - AHEAD) return;
    if (Date.now() - this.#asked < AGAIN) return;
    this.#asked = Date.now();
    const over = this.#over;
    try {
      if (!this.#loaded) this.#note('Loading what is past …');
      await this.#record.load(() => this.#next());
      this.#loaded = true;
      this.#complete = over;
      this.seen(this.#record.begin);
      this.seen(this.#record.end);
      this.#note(this.#record.from > this.#begin ? 'The run is too long: only its last part can be scrubbed.' : '');
    } catch (error) {
      this.#note(`What is past cannot be read: ${error.message}`);
    }
    this.#next();
  }

  #next() {
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#show(now));
  }

  #show(now) {
    this.#frame = 0;
    const passed = Math.min(now - this.#clock, 1_000);
    this.#clock = now;
    if (this.#moment === null) return;
    // While it is read, it plays as far as it is there.
    const there = this.#loaded ? Infinity : Math.max(this.#record.end, this.#begin);
    if (this.#playing) {
      const speed = Number($('speed').value);
      const moved = this.#moment + (this.#stopped ? 0 : passed * speed);
      this.#moment = Math.min(moved, Math.max(there, this.#moment));
      if (this.#moment >= this.#latest()) return this.#live();
      this.#load();
    }
    this.#stopped = false;
    if (this.#moment < this.#record.from) this.#moment = this.#record.from;
    this.#past.show(this.#moment);
    if (this.#playing) {
      this.#draw();
      this.#next();
    } else this.#stopped = true; // The next frame may be long after this one.
  }

  #note(text) {
    $('note').textContent = text;
    $('note').hidden = !text || this.#moment === null;
  }

  #draw() {
    const there = this.#begin < Infinity && this.#latest() > this.#begin;
    document.getElementById('timeline').hidden = !there;
    if (!there) return;
    const all = this.#latest() - this.#begin;
    const at = this.#moment === null ? all : this.#moment - this.#begin;
    const slider = $('slider');
    slider.max = String(Math.round(all));
    slider.value = String(Math.round(at));
    const text = `${clock(at)} / ${clock(all)}`;
    if ($('time').value !== text) $('time').value = text;
    slider.setAttribute('aria-valuetext', `${clock(at)} of ${clock(all)}${this.#moment === null && !this.#over ? ', live' : ''}`);
    $('time').title = new Date(this.#begin + at).toLocaleString();
    const play = $('play');
    play.textContent = this.#playing ? '❚❚' : '▶';
    play.setAttribute('aria-label', this.#playing ? 'Pause' : 'Play');
    $('live').setAttribute('aria-pressed', String(this.#moment === null));
  }
}
