// The last seconds of a value as one line of SVG.

import { svg } from './dom.js';

/** Values that are kept: ten a second give fifteen seconds. */
export const KEPT = 150;
/** The line is drawn as often as that at most, in milliseconds: more cannot be read. */
const EVERY = 250;

export class Sparkline {
  #width;
  #height;
  #line = svg('path', { class: 'spark' });
  #area = svg('path', { class: 'spark-area' });
  #paintedAt = 0;

  constructor(width, height) {
    this.#width = width;
    this.#height = height;
    this.node = svg('g', { 'aria-hidden': 'true' }, this.#area, this.#line);
  }

  paint(values) {
    const now = performance.now();
    if (!values || values.length < 2 || now - this.#paintedAt < EVERY) return;
    this.#paintedAt = now;
    const most = Math.max(...values, 1);
    const step = this.#width / (KEPT - 1);
    const from = this.#width - (values.length - 1) * step;
    const points = values.map((value, at) => {
      const y = this.#height - (Math.max(0, value) / most) * (this.#height - 3);
      return `${(from + at * step).toFixed(1)} ${y.toFixed(1)}`;
    });
    const line = `M${points.join('L')}`;
    this.#line.setAttribute('d', line);
    this.#area.setAttribute('d', `${line}V${this.#height}H${from.toFixed(1)}Z`);
  }
}
