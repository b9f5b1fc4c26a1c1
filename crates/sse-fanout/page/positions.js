// What was seen of each lane: messages are numbered 1, 2, 3 … without a hole, so the page can tell
// for itself that nothing was lost or shown twice.

export class Positions {
  missing = 0;
  repeated = 0;
  #last = new Map();
  #anywhere = false;

  /**
   * Whether the messages from `first` to `last` are new. Counts them if they are not, and what is missing
   * before them; of a lane of which only a part is shown (`sparse`), nothing is.
   */
  isNext(lane, first, last, sparse = false) {
    const known = this.#last.get(lane);
    const before = sparse && !(first <= known) ? first - 1 : (known ?? (this.#anywhere ? first - 1 : 0));
    if (first <= before) {
      this.repeated += Math.min(before, last) - first + 1;
      return false;
    }
    this.missing += first - before - 1;
    this.#last.set(lane, last);
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
