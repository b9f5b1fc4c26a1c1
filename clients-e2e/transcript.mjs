// What a client saw, written to standard output when it is done.

export class Transcript {
  #seen = { text: {}, sequences: {}, problems: [], ends: [], stopped: null };

  /** Takes an event: its name and its data as text. */
  take(name, data) {
    const seen = this.#seen;
    if (name === 'end') {
      seen.ends.push(JSON.parse(data));
    } else if (name === 'output') {
      const { variation_id: variation, sequence, first_sequence: first = sequence, content } = JSON.parse(data);
      const expected = (seen.sequences[variation] ?? 0) + 1;
      if (first !== expected) seen.problems.push(`${variation}: message ${first} where ${expected} was due`);
      seen.sequences[variation] = sequence;
      seen.text[variation] = (seen.text[variation] ?? '') + content;
    } else if (!['log', 'status', 'metric'].includes(name)) {
      seen.problems.push(`event ${JSON.stringify(name)} with data ${JSON.stringify(data.slice(0, 80))}`);
    }
  }

  /** Ends the client. `why` says what made it stop reconnecting. */
  finish(why) {
    this.#seen.stopped = why;
    process.stdout.write(JSON.stringify(this.#seen), () => process.exit(0));
  }
}
