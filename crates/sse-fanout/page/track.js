// What one lane said, by time. Pure.

// Dropped items are cut off once they are so many, so that dropping costs nothing in the mean.
const CUT = 1024;

export class Track {
  last = 0;        // the last sequence
  dropped = 0;     // items that were let go
  #times = [];     // effective time of each item, in ms: the running maximum
  #items = [];
  #ends = [];      // characters said up to and with each item, from the first ever
  #head = 0;
  #base = 0;       // characters said by the items that were cut off

  constructor(channel, writer) {
    this.channel = channel;
    this.writer = writer;
    this.first = NaN; // when its first item was said
  }

  /** Number of items that ever were, those let go included. */
  get length() {
    return this.dropped + this.#times.length - this.#head;
  }

  /** Adds an item that was said at `at`, with `chars` characters; it is never before the one before it. */
  add(at, item, chars) {
    const before = this.#times.at(-1);
    const time = before > at ? before : at;
    if (this.length === 0) this.first = time;
    this.#ends.push((this.#ends.at(-1) ?? this.#base) + chars);
    this.#times.push(time);
    this.#items.push(item);
    return time;
  }

  /** Number of items said up to `moment`: a binary search. */
  upTo(moment) {
    let low = this.#head;
    let high = this.#times.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#times[middle] <= moment) low = middle + 1;
      else high = middle;
    }
    return low - this.#head + this.dropped;
  }

  item(index) {
    return this.#items[this.#at(index)];
  }

  time(index) {
    return this.#times[this.#at(index)];
  }

  /** Characters said by the first `count` items. */
  chars(count) {
    const at = this.#at(count - 1);
    return at >= 0 ? this.#ends[at] : this.#base;
  }

  /** When the oldest item was said that is still there; undefined if there is none. */
  get oldest() {
    return this.#times[this.#head];
  }

  /** Lets go of the oldest item, but never of the last one, and returns it. */
  drop() {
    if (this.#head + 1 >= this.#times.length) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head] = undefined;
    this.#head++;
    this.dropped++;
    if (this.#head >= CUT && this.#head * 2 > this.#times.length) {
      this.#base = this.#ends[this.#head - 1];
      for (const list of [this.#times, this.#items, this.#ends]) list.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }

  #at(index) {
    return index - this.dropped + this.#head;
  }
}
