// The log panel: the last rows of all variations, filtered by variation and level.

import { follow } from './follow.js';

const KEPT = 1000;
const LONGEST = 16_384; // characters of a message; a line that is continued for ever is cut there
const LEVELS = { trace: 0, debug: 1, info: 2, notice: 2, warn: 3, warning: 3, error: 4, fatal: 4, critical: 4 };
const CLASSES = ['trace', 'debug', 'info', 'warn', 'error'];
const MESSAGE_FIELDS = ['message', 'msg', 'event'];
const HIDDEN_FIELDS = new Set([...MESSAGE_FIELDS, 'timestamp', 'level']);

const time = new Intl.DateTimeFormat(undefined, {
  hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, hourCycle: 'h23',
});

export class Logs {
  #rows = [];          // the rows on the screen, oldest first
  #pending = [];       // rows for the next frame
  #open = new Map();   // variation and stream → the row that its next record continues
  #hues = new Map();   // variation → its colour's number
  #total = 0;
  #parts;
  #follow;

  constructor(panel) {
    const part = (id) => panel.querySelector(`#logs-${id}`);
    const scroller = part('rows');
    this.#parts = { rows: scroller.firstElementChild, count: part('count'), variation: part('variation'), level: part('level') };
    this.#follow = follow(scroller, part('follow'));
    const fold = part('fold');
    fold.addEventListener('click', () => {
      const open = panel.dataset.open !== 'true';
      panel.dataset.open = String(open);
      fold.setAttribute('aria-expanded', String(open));
      if (open) this.#follow.stick();
    });
    for (const select of [this.#parts.variation, this.#parts.level]) {
      select.addEventListener('change', () => this.#filter());
    }
  }

  /** Offers a variation in the filter. `hue` is its colour's number. */
  know(variation, hue) {
    if (this.#hues.has(variation)) return;
    this.#hues.set(variation, hue);
    this.#parts.variation.append(new Option(variation, variation));
  }

  /** Takes a log message, to be shown with the next frame. */
  add({ variation_id: variation, timestamp, content, metadata }) {
    const stream = metadata?.stream ?? '';
    const key = `${variation}/${stream}`;
    const record = read(content);
    const before = this.#open.get(key);
    if (before) before.message = (before.message + record.message).slice(0, LONGEST);
    const row = before ?? { variation, at: timestamp, stream, ...record };
    if (metadata?.partial === true) this.#open.set(key, row);
    else this.#open.delete(key);
    if (!before) this.#push(row);
    else if (row.text) row.text.data = row.message;
  }

  /** Takes a remark of the page itself. */
  remark(variation, message, level = 'warn') {
    this.#push({ variation, at: new Date().toISOString(), stream: '', level, message, fields: '' });
  }

  flush() {
    if (!this.#pending.length) return;
    const fresh = this.#pending;
    this.#pending = [];
    const fragment = document.createDocumentFragment();
    for (const row of fresh) {
      this.#build(row);
      fragment.append(row.element);
    }
    this.#rows.push(...fresh);
    for (const row of this.#rows.splice(0, Math.max(0, this.#rows.length - KEPT))) row.element.remove();
    this.#parts.rows.append(fragment);
    const shown = this.#total > KEPT ? `last ${KEPT.toLocaleString()} of ${this.#total.toLocaleString()}` : this.#total;
    this.#parts.count.textContent = String(shown);
    this.#follow.stick();
  }

  #push(row) {
    this.#total++;
    this.#pending.push(row);
    // What could never stay on the screen needs no elements; while the page is hidden, no frames come.
    if (this.#pending.length > 2 * KEPT) this.#pending.splice(0, this.#pending.length - KEPT);
  }

  #build(row) {
    row.rank = LEVELS[row.level.toLowerCase()] ?? 2;
    const cell = (name, text) => {
      const span = document.createElement('span');
      span.className = name;
      span.textContent = text;
      return span;
    };
    const at = Date.parse(row.at);
    row.text = document.createTextNode(row.message);
    const message = cell('message', '');
    message.append(row.text);
    if (row.fields) message.append(cell('fields', row.fields));
    row.element = document.createElement('div');
    row.element.className = `row ${CLASSES[row.rank]} hue${this.#hues.get(row.variation) ?? 0}`;
    row.element.append(
      cell('time', Number.isNaN(at) ? '' : time.format(at)),
      cell('variation', row.variation),
      cell('level', row.level),
      message,
    );
    row.element.hidden = !this.#wanted(row);
  }

  #wanted(row) {
    const { variation, level } = this.#parts;
    return (!variation.value || row.variation === variation.value) && row.rank >= Number(level.value);
  }

  #filter() {
    for (const row of this.#rows) row.element.hidden = !this.#wanted(row);
    this.#follow.stick();
  }
}

// Level, message and the other fields of a log record, whatever its agent's taste.
function read(content) {
  if (content === null || typeof content !== 'object' || Array.isArray(content)) {
    return { level: 'info', message: typeof content === 'string' ? content : JSON.stringify(content), fields: '' };
  }
  const name = MESSAGE_FIELDS.find((field) => typeof content[field] === 'string');
  const others = Object.entries(content).filter(([field]) => !HIDDEN_FIELDS.has(field) || (name && field !== name && MESSAGE_FIELDS.includes(field)));
  const fields = others.map(([field, value]) => `${field}=${typeof value === 'string' ? value : JSON.stringify(value)}`).join('  ');
  return {
    level: typeof content.level === 'string' ? content.level : 'info',
    message: name ? content[name] : fields ? '' : JSON.stringify(content),
    fields,
  };
}
