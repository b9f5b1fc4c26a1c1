// The commands of one variation, as lines: what was asked for, and each step of what became of it.

const SHOWN = 3;
const TERMINAL = new Set(['rejected', 'applied', 'failed', 'expired', 'cancelled']);

export class Commands {
  #list;
  #lives = new Map(); // command id → what is known of it

  constructor(list) {
    this.#list = list;
  }

  /** Takes what the control-plane or the sidecar says of a command at `at`, in ms. */
  take(content, at) {
    const { command: id, step } = content;
    if (typeof id !== 'string' || typeof step !== 'string') return;
    let life = this.#lives.get(id);
    if (!life) {
      life = { name: content.action ?? id, by: content.caller, begun: at, steps: [], element: this.#line() };
      this.#lives.set(id, life);
    }
    // Of two endings the first counts, and an ack may be read before what it answers.
    const over = life.steps.some((known) => TERMINAL.has(known));
    if (step === 'issued') Object.assign(life, { name: content.action, by: content.caller, begun: at });
    if (life.steps.includes(step) || (over && step !== 'issued')) return;
    if (step === 'issued') life.steps.unshift(step);
    else life.steps.push(step);
    life.element.dataset.step = life.steps.at(-1);
    const took = TERMINAL.has(step) ? ` · ${Math.max(0, Math.round(at - life.begun)).toLocaleString()} ms` : '';
    life.element.textContent = `${life.name}: ${life.steps.join(' → ')}${took}`;
    const result = content.result === undefined ? '' : JSON.stringify(content.result);
    life.element.title = [life.by && `by ${life.by}`, content.reason, result].filter(Boolean).join(', ');
  }

  /** Tells that a command could not even be sent. */
  refuse(action, why) {
    const line = this.#line();
    line.dataset.step = 'rejected';
    line.textContent = line.title = `${action}: ${why}`;
  }

  #line() {
    const line = document.createElement('li');
    this.#list.prepend(line);
    this.#list.hidden = false;
    while (this.#list.childElementCount > SHOWN) this.#list.lastElementChild.remove();
    return line;
  }
}
