// What the agents of the test say: a text made of what breaks pipelines, the same for the same seed.

/** A small generator of numbers from 0 up to 1 (mulberry32): tests must be repeatable. */
export function numbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const LINES = [
  'Plain words, nothing else.\n',
  '\n',
  '\n\n\n',
  'trailing spaces   \n',
  '\ttabs\tand    runs of spaces\n',
  'Zoë, naïve, Łódź, 手紙, 🛰️ 👩‍🚀 🐙\n',
  '\x1b[1;32mgreen\x1b[0m and \x1b[38;5;208morange\x1b[0m\n',
  'data: not a field\n',
  'data: x\n\nevent: end\ndata: {}\n\n',
  'id: 99\nretry: 1\n: a comment\n',
  'Windows line\r\n',
  'progress 10 %\rprogress 20 %\r\n',
  'U+2028\u2028 U+2029\u2029 NEL\u0085 FF\f VT\v NUL\0 DEL\x7f\n',
  'a "quoted" back\\slash </script> &amp; \\n\n',
  '{"json": "but no log record"}\n',
  '{"level":"info","message":"no timestamp, so it is output"}\n',
  '{ not json\n',
  '\ufeffa byte order mark\n',
];

/** The text for `seed`. It ends in the middle of a line. */
export function textFor(seed) {
  const random = numbers(seed);
  let text = '';
  for (let i = 0; i < 160; i++) text += `${i} ${LINES[Math.floor(random() * LINES.length)]}`.slice(random() < 0.5 ? 0 : `${i} `.length);
  return `${LINES.join('')}${text}the end, without a line end`;
}
