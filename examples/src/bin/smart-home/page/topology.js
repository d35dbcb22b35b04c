// The broker in the middle, its clients around it, and the messages between them as moving dots.

import { roving, setAttribute, setText, svg, html } from './dom.js';
import { ROOMS } from './model.js';

/** How long a message takes from end to end, in milliseconds, and how many may be under way. */
const TRAVEL = 900;
const MOST_DOTS = 320;
/** Messages of one report are spread over the time to the next one, in milliseconds. */
const REPORT = 200;

export class Topology {
  #stage;
  #canvas;
  #svg;
  #caption;
  #home;
  #oninspect;
  #nodes = new Map();
  #dots = [];
  #size = { width: 0, height: 0 };
  #colors = [];
  #isVisible = false;
  #isRunning;
  #frame = 0;

  constructor(stage, caption, button, home, oninspect) {
    this.#stage = stage;
    this.#caption = caption;
    this.#home = home;
    this.#oninspect = oninspect;
    this.#canvas = html('canvas', { 'aria-hidden': 'true' });
    this.#svg = svg('svg', { role: 'group', 'aria-label': 'Clients of the broker. The arrow keys move between them.' });
    stage.append(this.#canvas, this.#svg);
    new ResizeObserver(() => this.#place()).observe(stage);
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.#isVisible = isIntersecting;
      this.#wake();
    }).observe(stage);
    roving(this.#svg, () => [...this.#svg.querySelectorAll('.client')], (node) => node.getBoundingClientRect());
    const still = matchMedia('(prefers-reduced-motion: reduce)');
    const run = (isRunning) => {
      this.#isRunning = isRunning;
      setText(button, isRunning ? 'Pause the dots' : 'Let the dots move');
      this.#wake();
    };
    run(!still.matches);
    still.addEventListener('change', () => run(!still.matches));
    button.addEventListener('click', () => run(!this.#isRunning));
    const dark = matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', () => this.#readColors());
    document.addEventListener('visibilitychange', () => this.#wake());
    this.#readColors();
  }

  /** The clients are others than before. */
  rebuild() {
    const order = Object.keys(ROOMS);
    const devices = [...this.#home.devices.values()].sort((a, b) => order.indexOf(a.room) - order.indexOf(b.room));
    this.#nodes = new Map(devices.map((device) => [device.id, this.#node(device)]));
    this.#size = { width: 0, height: 0 };
    this.#place();
    this.#svg.querySelector('.client')?.setAttribute('tabindex', '0');
  }

  #node(device) {
    const open = () => this.#oninspect(device.id);
    const tell = () => setText(this.#caption, this.#describe(device));
    const title = svg('title', {}, device.id);
    const node = svg('g', {
      class: 'client', role: 'button', tabindex: '-1', 'data-client': device.id, click: open, focus: tell, pointerenter: tell,
      keydown: (event) => {
        if (event.key !== 'Enter' && event.key !== ' ') return;
        event.preventDefault();
        open();
      },
    }, title, svg('circle', { class: 'hit', r: 11 }), svg('circle', { class: 'dot', r: 5.5 }), svg('path', { class: 'gone', d: 'M-3-3 3 3M3-3-3 3' }));
    return { node, title, device, x: 0, y: 0 };
  }

  #describe({ id, status, version, power }) {
    return `${id}: ${status || 'online'}, MQTT ${version}, ${power === 'battery' ? 'on a battery' : 'on mains'}`;
  }

  /** Something of a client has changed. */
  touch(id) {
    const found = this.#nodes.get(id);
    if (!found) return;
    setAttribute(found.node, 'data-status', found.device.status || 'online');
    setAttribute(found.node, 'aria-label', this.#describe(found.device));
  }

  /** Messages of the last fifth of a second: client, `up` or `down`, QoS and topic of each. */
  show(moves) {
    if (!this.#isAwake) return;
    const now = performance.now();
    moves.forEach(([id, way, qos], at) => {
      const client = this.#nodes.get(id);
      if (!client || this.#dots.length >= MOST_DOTS) return;
      this.#dots.push({ client, isUp: way === 'up', qos: qos === 1 || qos === 2 ? qos : 0, start: now + (at / moves.length) * REPORT });
    });
    this.#wake();
  }

  get #isAwake() {
    return this.#isRunning && this.#isVisible && !document.hidden;
  }

  #wake() {
    if (!this.#isAwake) {
      cancelAnimationFrame(this.#frame);
      this.#frame = 0;
      this.#dots = [];
      this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    } else if (!this.#frame && this.#dots.length) {
      this.#frame = requestAnimationFrame(() => this.#draw());
    }
  }

  get #context() {
    return this.#canvas.getContext('2d');
  }

  #readColors() {
    const style = getComputedStyle(document.documentElement);
    this.#colors = [0, 1, 2].map((qos) => style.getPropertyValue(`--qos${qos}`));
  }

  #place() {
    const width = this.#stage.clientWidth;
    if (!width || !this.#nodes.size || this.#size.width === width) return;
    const height = Math.round(Math.max(360, Math.min(width < 560 ? width * 1.15 : width * 0.6, 640)));
    this.#size = { width, height };
    const scale = Math.min(devicePixelRatio || 1, 2);
    [this.#canvas.width, this.#canvas.height] = [width * scale, height * scale];
    this.#context.setTransform(scale, 0, 0, scale, 0, 0);
    setAttribute(this.#svg, 'viewBox', `0 0 ${width} ${height}`);
    this.#stage.dataset.drawn = '';
    const labels = this.#ring(width, height);
    const [x, y] = [width / 2, height / 2];
    const broker = svg('g', { class: 'broker', 'aria-hidden': 'true' }, svg('circle', { cx: x, cy: y, r: 34 }),
      svg('text', { x, y: y + 5 }, 'broker'));
    const lines = [...this.#nodes.values()].map((one) => svg('line', { class: 'spoke', x1: x, y1: y, x2: one.x, y2: one.y }));
    const nodes = [...this.#nodes.values()].map(({ node }) => node);
    this.#svg.replaceChildren(svg('g', { 'aria-hidden': 'true' }, ...lines, ...labels), broker, ...nodes);
    for (const id of this.#nodes.keys()) this.touch(id);
  }

  /** Gives every client its place, rooms side by side; answers the names of the rooms. */
  #ring(width, height) {
    const isNarrow = width < 560;
    const rings = isNarrow ? 4 : 3;
    const step = isNarrow ? 20 : 26;
    const [outerX, outerY] = [width / 2 - (isNarrow ? 12 : 96), height / 2 - (isNarrow ? 12 : 34)];
    const groups = new Map();
    for (const one of this.#nodes.values()) {
      const name = one.device.room;
      groups.set(name, [...(groups.get(name) ?? []), one]);
    }
    // Each client takes one place on the circle, and each room leaves one free.
    const places = this.#nodes.size + groups.size * 1.5;
    let at = 0;
    const labels = [];
    for (const [name, members] of groups) {
      const angle = (place) => (place / places) * 2 * Math.PI - Math.PI / 2;
      members.forEach((one, index) => {
        const turn = angle(at + index);
        const inward = (index % rings) * step;
        one.x = width / 2 + Math.cos(turn) * (outerX - inward);
        one.y = height / 2 + Math.sin(turn) * (outerY - inward);
        setAttribute(one.node, 'transform', `translate(${one.x.toFixed(1)} ${one.y.toFixed(1)})`);
      });
      const turn = angle(at + (members.length - 1) / 2);
      at += members.length + 1.5;
      if (isNarrow) continue;
      const side = Math.cos(turn);
      const anchor = side > 0.25 ? 'start' : side < -0.25 ? 'end' : 'middle';
      const [x, y] = [width / 2 + side * (outerX + 16), height / 2 + Math.sin(turn) * (outerY + 18) + 4];
      labels.push(svg('text', { class: 'ring-name', x: x.toFixed(1), y: y.toFixed(1), 'text-anchor': anchor }, ROOMS[name]));
    }
    return labels;
  }

  /** One picture: a dot for QoS 0, a square for QoS 1, a triangle for QoS 2. */
  #draw() {
    this.#frame = 0;
    const now = performance.now();
    const context = this.#context;
    const { width, height } = this.#size;
    context.clearRect(0, 0, width, height);
    this.#dots = this.#dots.filter(({ start }) => now < start + TRAVEL);
    for (const qos of [0, 1, 2]) {
      context.fillStyle = this.#colors[qos];
      context.beginPath();
      for (const dot of this.#dots) {
        if (dot.qos !== qos || now < dot.start) continue;
        const part = (now - dot.start) / TRAVEL;
        const way = dot.isUp ? 1 - part : part;
        shape(context, qos, width / 2 + (dot.client.x - width / 2) * way, height / 2 + (dot.client.y - height / 2) * way);
      }
      context.fill();
    }
    this.#wake();
  }
}

function shape(context, qos, x, y) {
  if (qos === 0) {
    context.moveTo(x + 2.6, y);
    context.arc(x, y, 2.6, 0, 2 * Math.PI);
  } else if (qos === 1) {
    context.rect(x - 3.2, y - 3.2, 6.4, 6.4);
  } else {
    context.moveTo(x, y - 5.2);
    context.lineTo(x + 4.8, y + 3.6);
    context.lineTo(x - 4.8, y + 3.6);
    context.closePath();
  }
}
