// One variation: its name, its state, its figures and what it says.

import { Commands } from './commands.js';
import { follow } from './follow.js';
import { Text } from './text.js';

const TERMINAL = new Set(['succeeded', 'failed', 'cancelled', 'lost']);
const RATE_SECONDS = 5;
const METRICS_SHOWN = 6;
const number = new Intl.NumberFormat();

export class Column {
  state = 'waiting';
  chars = 0;
  #pending = '';
  #buckets = new Map(); // second → characters said in it
  #first = Infinity;
  #last = 0;
  #metrics = new Map();
  #parts;
  #text;
  #follow;

  constructor(id, hue) {
    this.id = id;
    this.element = document.getElementById('column').content.firstElementChild.cloneNode(true);
    this.element.classList.add(`hue${hue}`);
    const part = (selector) => this.element.querySelector(selector);
    this.#parts = {
      badge: part('.badge'), chars: part('.chars'), rate: part('.rate'), elapsed: part('.elapsed'),
      metrics: part('.metrics'), steer: part('.steer'),
    };
    this.commands = new Commands(part('.commands'));
    part('h2').textContent = id;
    part('h2').title = id;
    part('.output').setAttribute('aria-label', `Output of ${id}`);
    this.#text = new Text(part('pre'));
    this.#follow = follow(part('.output'), part('.follow'));
  }

  /** Shows buttons that send commands; `send(action)` may throw. */
  steer(send) {
    this.#parts.steer.hidden = false;
    for (const button of this.#parts.steer.children) {
      const action = button.dataset.action;
      button.setAttribute('aria-label', `${button.textContent} ${this.id}`);
      button.addEventListener('click', async () => {
        button.disabled = true;
        try {
          await send(action);
        } catch (error) {
          this.commands.refuse(action, error.message);
        } finally {
          button.disabled = false;
        }
      });
    }
  }

  /** Takes text to be shown with the next frame. `at` is when it was said, in ms, if that is known. */
  say(text, at) {
    this.#pending += text;
    let chars = 0;
    for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) !== 0xdc00) chars++;
    this.chars += chars;
    if (this.state === 'waiting') this.become({ state: 'running' }, at);
    if (!at) return;
    this.#seen(at);
    const second = Math.floor(at / 1000);
    this.#buckets.set(second, (this.#buckets.get(second) ?? 0) + chars);
    if (this.#buckets.size > 4 * RATE_SECONDS) this.#forgetBefore(second - RATE_SECONDS);
  }

  /**
   * Shows a text that was said from `first` to `last`, in ms, in one go: the end of `chars` characters.
   * What is said later follows with `say`.
   */
  recall(text, chars, first, last) {
    this.say(text, null);
    this.chars = chars;
    this.#seen(first);
    this.#seen(last);
  }

  /** Puts a remark of the page's own between the lines. */
  remark(text) {
    this.flush();
    const note = document.createElement('div');
    note.className = 'gap';
    note.setAttribute('role', 'note');
    note.textContent = text;
    this.#text.insert(note);
    this.#follow.stick();
  }

  /** Takes a status. Returns whether it is another state than before. */
  become({ state, exit_code: code, signal, reason }, at) {
    if (typeof state !== 'string') return false;
    if (at) this.#seen(at);
    const news = state !== this.state;
    // The end of the run repeats states without what was said about them.
    if (!news && code === undefined && signal === undefined && reason === undefined) return false;
    this.state = state;
    this.element.dataset.state = state;
    this.#parts.badge.textContent = state === 'failed' && Number.isInteger(code) ? `failed (${code})` : state;
    const why = [
      typeof reason === 'string' && reason,
      Number.isInteger(code) && `exit code ${code}`,
      Number.isInteger(signal) && `signal ${signal}`,
    ];
    this.#parts.badge.title = why.filter(Boolean).join(', ');
    return news;
  }

  /** Takes metrics: `{name, value}`, or an object of numbers. */
  measure(content) {
    if (!content || typeof content !== 'object') return;
    const pairs = typeof content.name === 'string' ? [[content.name, content.value]] : Object.entries(content);
    for (const [name, value] of pairs) {
      if (typeof value === 'number') this.#metrics.set(name, value);
    }
  }

  /** Tells of messages that can no longer be had. */
  gap({ first, last, reason }) {
    const count = last - first + 1;
    const which = count === 1 ? `Message ${first} is` : `${number.format(count)} messages (${first}–${last}) are`;
    this.remark(`${which} no longer available${reason ? `: ${reason}` : ''}`);
  }

  /** Puts what was said since the last frame on the screen. */
  flush() {
    if (!this.#pending) return;
    this.#text.append(this.#pending);
    this.#pending = '';
    this.#follow.stick();
  }

  /** Renews the figures; cheap enough for several times a second. */
  refresh(now) {
    const over = TERMINAL.has(this.state);
    const until = over ? this.#last : Math.max(this.#last, now);
    const elapsed = this.#last ? Math.max(0, until - this.#first) : 0;
    show(this.#parts.chars, `${number.format(this.chars)} chars`);
    // Who joined late with a snapshot knows the text, but not how long it took.
    show(this.#parts.rate, elapsed ? `${number.format(this.#rate(over, until, elapsed))}/s` : '');
    show(this.#parts.elapsed, elapsed ? clock(elapsed) : '–:––');
    if (this.#metrics.size) {
      const shown = [...this.#metrics].slice(0, METRICS_SHOWN);
      show(this.#parts.metrics, shown.map(([name, value]) => `${name} ${number.format(value)}`).join(' · '));
      this.#parts.metrics.hidden = false;
    }
  }

  get isOver() {
    return TERMINAL.has(this.state);
  }

  // While it speaks, the last seconds' rate; of what is over, the mean.
  #rate(over, until, elapsed) {
    if (over) return Math.round(this.chars / (elapsed / 1000));
    const second = Math.floor(until / 1000);
    this.#forgetBefore(second - RATE_SECONDS);
    let chars = 0;
    for (const count of this.#buckets.values()) chars += count;
    const span = Math.min(RATE_SECONDS, Math.max(1, (until - this.#first) / 1000));
    return Math.round(chars / span);
  }

  #forgetBefore(second) {
    for (const bucket of this.#buckets.keys()) if (bucket < second) this.#buckets.delete(bucket);
  }

  #seen(at) {
    this.#first = Math.min(this.#first, at);
    this.#last = Math.max(this.#last, at);
  }
}

function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A duration in ms as people read it: `1:05`, `2:03:04`. */
export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const two = (n) => String(n).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
