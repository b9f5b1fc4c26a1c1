// The board as it was at a moment.

import { Board } from './board.js';
import { Column } from './column.js';

const SHOWN = 1 << 18;  // characters of a text that a jump builds anew; what follows is added to them
const RECENT = 5_000;   // ms whose messages are told one by one, for the rate

export class Past {
  #record;
  #board;
  #moment = -Infinity;
  #told = new Map(); // track → number of items that are on the board

  /** Shows `record` in `container`; `hue(id)` is the number of a variation's colour. */
  constructor(record, container, hue) {
    this.#record = record;
    this.#board = new Board(container, (id) => new Column(id, hue(id)));
  }

  /** Shows what had been said by `moment`, in ms. Forward, only what is new is added. */
  show(moment) {
    const tracks = this.#record.of('output');
    if (moment < this.#moment) {
      this.#told.clear();
      const built = new Set(tracks.map((track) => track.writer));
      for (const { id } of [...this.#board]) if (!built.has(id)) this.#board.renew(id);
    }
    for (const track of tracks) this.#words(track, moment);
    this.#others(moment);
    this.#moment = moment;
    for (const column of this.#board) {
      column.flush();
      column.refresh(moment);
    }
  }

  #words(track, moment) {
    const told = this.#told.get(track);
    const upto = track.upTo(moment);
    // A long way forward is quicker built anew, too.
    if (told === undefined || told < track.dropped || track.chars(upto) - track.chars(told) > SHOWN) {
      this.#anew(track, upto, moment);
    } else {
      const column = this.#board.get(track.writer);
      for (let index = told; index < upto; index++) column.say(track.item(index), track.time(index));
    }
    this.#told.set(track, upto);
  }

  #anew(track, upto, moment) {
    const column = this.#board.renew(track.writer);
    for (const each of this.#record.tracks.values()) {
      if (each.channel !== 'output') this.#told.delete(each); // its state and commands are told again
    }
    let from = upto;
    for (let chars = 0; from > track.dropped && chars < SHOWN; from--) chars += track.item(from - 1).length;
    if (from > 0) column.remark('Earlier text is not shown here.');
    const recent = Math.max(from, track.upTo(moment - RECENT));
    const words = [];
    for (let index = from; index < recent; index++) words.push(track.item(index));
    if (recent > 0) column.recall(words.join(''), track.chars(recent), track.first, this.#timeOf(track, recent - 1));
    for (let index = recent; index < upto; index++) column.say(track.item(index), track.time(index));
  }

  #timeOf(track, index) {
    return index >= track.dropped ? track.time(index) : track.oldest;
  }

  // Statuses and commands are few: in the order of their times.
  #others(moment) {
    const fresh = [];
    for (const track of this.#record.tracks.values()) {
      if (track.channel === 'output') continue;
      const upto = track.upTo(moment);
      for (let index = this.#told.get(track) ?? 0; index < upto; index++) {
        fresh.push({ channel: track.channel, at: track.time(index), ...track.item(index) });
      }
      this.#told.set(track, upto);
    }
    fresh.sort((a, b) => a.at - b.at);
    for (const { channel, at, variation, writer, content } of fresh) {
      if (!content || typeof content !== 'object') continue;
      if (channel === 'status') this.#board.get(variation).become(content, at);
      else if (channel === 'acks' || writer) this.#board.get(variation).commands.take(content, at);
    }
  }
}
