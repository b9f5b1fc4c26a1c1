// What was seen of each lane: messages are numbered 1, 2, 3 … without a hole, so the page can tell
// for itself that nothing was lost or shown twice.

export class Positions {
  missing = 0;
  repeated = 0;
  #last = new Map();
  #anywhere = false;

  /**
   * Whether the message is new. Counts it if it is not, and what is missing before it; of a lane
   * of which only a part is shown (`sparse`), nothing is.
   */
  isNext(lane, sequence, sparse = false) {
    const known = this.#last.get(lane);
    const last = sparse && !(sequence <= known) ? sequence - 1 : (known ?? (this.#anywhere ? sequence - 1 : 0));
    if (sequence <= last) {
      this.repeated++;
      return false;
    }
    this.missing += sequence - last - 1;
    this.#last.set(lane, sequence);
    return true;
  }

  /** All up to `last` is accounted for: by a snapshot, or as a gap that was told. */
  set(lane, last) {
    this.#last.set(lane, Math.max(last, this.#last.get(lane) ?? 0));
  }

  /** The stream skips history: lanes may begin at any number. */
  startAnywhere() {
    this.#anywhere = true;
  }
}
