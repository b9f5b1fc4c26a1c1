// Columns side by side, in the order of their variations' names.

const HUES = 6;
const order = (a, b) => a.localeCompare(b, 'en', { numeric: true });

export class Board {
  #container;
  #make;
  #columns = new Map();
  #hues = new Map();

  /** Keeps columns in `container`; `make(id, hue)` makes one. */
  constructor(container, make) {
    this.#container = container;
    this.#make = make;
  }

  has(id) {
    return this.#columns.has(id);
  }

  /** The column of a variation, made if there is none. */
  get(id) {
    const known = this.#columns.get(id);
    if (known) return known;
    const fresh = this.#make(id, this.hue(id));
    const next = [...this.#columns.values()].filter((c) => order(c.id, id) > 0).sort((a, b) => order(a.id, b.id))[0];
    this.#container.insertBefore(fresh.element, next?.element ?? null);
    this.#columns.set(id, fresh);
    return fresh;
  }

  /** Puts a fresh column in the place of a variation's. */
  renew(id) {
    const old = this.#columns.get(id);
    if (!old) return this.get(id);
    const fresh = this.#make(id, this.hue(id));
    old.element.replaceWith(fresh.element);
    this.#columns.set(id, fresh);
    return fresh;
  }

  /** The number of a variation's colour. */
  hue(id) {
    if (!this.#hues.has(id)) this.#hues.set(id, this.#hues.size % HUES);
    return this.#hues.get(id);
  }

  get size() {
    return this.#columns.size;
  }

  [Symbol.iterator]() {
    return this.#columns.values();
  }
}
