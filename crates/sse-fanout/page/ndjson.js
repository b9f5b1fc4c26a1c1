// JSON objects, one a line, as they arrive.

const LONGEST = 64 << 20; // characters of a line: what is longer is no message

/** Calls `take(object, length)` for each line of an answer's body. Throws if the body breaks off. */
export async function readLines(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const text = held + value;
      let from = 0;
      for (let end; (end = text.indexOf('\n', from)) >= 0; from = end + 1) {
        if (end > from) take(JSON.parse(text.slice(from, end)), end - from);
      }
      held = text.slice(from);
      if (held.length > LONGEST) throw new Error('a line is too long');
    }
    if (held) throw new Error('the last line has no end');
  } finally {
    reader.cancel().catch(() => {});
  }
}
