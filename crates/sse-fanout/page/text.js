// Text on the screen: exact, append-only, coloured by ANSI sequences and lightly by Markdown.
// Agents' text becomes text nodes only, never markup.

const ESCAPE = /\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-OQ-WYZ\\`-~])/y;
const UNFINISHED = /\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?$/y;
const LONGEST_ESCAPE = 4096;

// Lines come in pages, of which the browser lays out and paints only those in sight.
const PAGE_LINES = 100;

// How much of a line's beginning decides what kind of line it is.
const PREFIX = 10;

// No style is one object, so that runs without one meet in one text node.
const PLAIN = {};

/** Writes text into `root`, which then holds every character but the escape sequences. */
export class Text {
  #root;
  #held = '';      // an escape sequence that has not arrived as a whole
  #style = PLAIN;
  #line = null;    // the line being written
  #prefix = '';
  #run = null;     // its last text node
  #runStyle = null;
  #page = null;    // the page being written
  #pageLines = 0;
  #group = null;   // the code block or table being written
  #fenced = false;

  constructor(root) {
    this.#root = root;
    root.addEventListener('copy', copyExactly);
  }

  append(text) {
    text = this.#held + text;
    this.#held = '';
    let from = 0;
    while (from < text.length) {
      const escape = text.indexOf('\x1b', from);
      this.#put(escape < 0 ? text.slice(from) : text.slice(from, escape));
      if (escape < 0) return;
      ESCAPE.lastIndex = UNFINISHED.lastIndex = escape;
      const match = ESCAPE.exec(text);
      if (match) {
        if (match[2] === 'm') this.#style = restyle(this.#style, match[1]);
        from = ESCAPE.lastIndex;
      } else if (UNFINISHED.test(text) && text.length - escape < LONGEST_ESCAPE) {
        this.#held = text.slice(escape);
        return;
      } else {
        from = escape + 1;
      }
    }
  }

  /** Puts an element of our own between the lines. */
  insert(element) {
    this.#endLine();
    this.#group = null;
    this.#place().append(element);
  }

  #put(text) {
    let from = 0;
    while (from < text.length) {
      const end = text.indexOf('\n', from);
      const part = end < 0 ? text.slice(from) : text.slice(from, end + 1);
      if (!this.#line) this.#beginLine(part[0]);
      if (this.#run && this.#runStyle === this.#style) this.#run.appendData(part);
      else this.#beginRun(part);
      if (this.#prefix.length < PREFIX) {
        this.#prefix += part.slice(0, PREFIX - this.#prefix.length);
        this.#classify();
      }
      if (end < 0) return;
      this.#endLine();
      from = end + 1;
    }
  }

  #beginLine(first) {
    const group = this.#fenced ? 'code' : first === '|' ? 'table' : null;
    if (!group) this.#group = null;
    else if (this.#group?.className !== group) this.#beginGroup(group);
    this.#line = document.createElement('span');
    this.#line.className = 'l';
    (this.#group ?? this.#place()).append(this.#line);
    this.#pageLines++;
  }

  #place() {
    if (!this.#page || this.#pageLines >= PAGE_LINES) {
      this.#page = document.createElement('div');
      this.#page.className = 'page';
      this.#root.append(this.#page);
      this.#pageLines = 0;
    }
    return this.#page;
  }

  #endLine() {
    this.#line = this.#run = null;
    this.#prefix = '';
  }

  #beginGroup(kind) {
    this.#group = document.createElement('div');
    this.#group.className = kind;
    this.#place().append(this.#group);
  }

  #beginRun(text) {
    this.#run = document.createTextNode(text);
    this.#runStyle = this.#style;
    this.#line.append(dress(this.#run, this.#style));
  }

  #classify() {
    const prefix = this.#prefix;
    const fence = prefix.startsWith('```') && !this.#line.classList.contains('fence');
    if (fence && this.#fenced) {
      this.#fenced = false;
      this.#line.className = 'l fence';
    } else if (fence) {
      this.#fenced = true;
      this.#beginGroup('code');
      this.#line.className = 'l fence';
      this.#group.append(this.#line);
    } else if (!this.#group) {
      const heading = /^(#{1,6}) /.exec(prefix);
      const kind = heading ? `h h${heading[1].length}`
        : /^ {0,3}([-*+]|\d{1,3}[.)]) /.test(prefix) ? 'item'
        : prefix.startsWith('>') ? 'quote' : '';
      if (kind) this.#line.className = `l ${kind}`;
    }
  }
}

// What was marked is copied as it was written: blocks would add line ends of their own.
function copyExactly(event) {
  const selection = getSelection();
  if (selection.isCollapsed) return;
  const marked = selection.getRangeAt(0).cloneContents();
  for (const own of marked.querySelectorAll('.gap')) own.remove();
  event.clipboardData.setData('text/plain', marked.textContent);
  event.preventDefault();
}

const FLAGS = { 1: 'bold', 2: 'faint', 3: 'italic', 4: 'underline', 7: 'inverse', 9: 'strike' };
const UNFLAG = { 22: ['bold', 'faint'], 23: ['italic'], 24: ['underline'], 27: ['inverse'], 29: ['strike'] };

// The style after SGR `parameters` (ECMA-48 §8.3.117, and xterm's 256 and direct colours).
function restyle(style, parameters) {
  const next = { ...style };
  const codes = parameters.split(/[;:]/).map(Number);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code === 0) for (const key of Object.keys(next)) delete next[key];
    else if (FLAGS[code]) next[FLAGS[code]] = true;
    else if (UNFLAG[code]) for (const flag of UNFLAG[code]) delete next[flag];
    else if (code >= 30 && code <= 37) next.fg = code - 30;
    else if (code >= 40 && code <= 47) next.bg = code - 40;
    else if (code >= 90 && code <= 97) next.fg = code - 82;
    else if (code >= 100 && code <= 107) next.bg = code - 92;
    else if (code === 39) delete next.fg;
    else if (code === 49) delete next.bg;
    else if (code === 38 || code === 48) {
      const target = code === 38 ? 'fg' : 'bg';
      if (codes[i + 1] === 5) { next[target] = indexed(codes[i + 2]); i += 2; }
      else if (codes[i + 1] === 2) { next[target] = `rgb(${codes.slice(i + 2, i + 5).join(' ')})`; i += 4; }
    }
  }
  return Object.keys(next).length ? next : PLAIN;
}

function indexed(n) {
  if (n < 16) return n;
  if (n > 231) return `rgb(${Array(3).fill((n - 232) * 10 + 8).join(' ')})`;
  const level = (step) => (step ? step * 40 + 55 : 0);
  n -= 16;
  return `rgb(${level(Math.floor(n / 36))} ${level(Math.floor(n / 6) % 6)} ${level(n % 6)})`;
}

function dress(node, style) {
  if (Object.keys(style).length === 0) return node;
  const span = document.createElement('span');
  for (const flag of Object.values(FLAGS)) if (style[flag]) span.classList.add(flag);
  if (typeof style.fg === 'number') span.classList.add(`fg${style.fg}`);
  else if (style.fg) span.style.color = style.fg;
  if (typeof style.bg === 'number') span.classList.add(`bg${style.bg}`);
  else if (style.bg) span.style.backgroundColor = style.bg;
  span.append(node);
  return span;
}
