// The floor plan: a tile for each device, in the room where it stands.

import { painter, roving, setAttribute, setText, svg } from './dom.js';
import { ROOMS, SWITCHES } from './model.js';
import { panes, plan, ways } from './plan.js';
import { Sparkline } from './sparkline.js';
import { symbol } from './symbols.js';

/** Names that are wider than a tile. */
const SHORT = { temperature: 'temp', brightness: 'light' };
/** How long a command may take before the tile stops waiting, in milliseconds. */
const PATIENCE = 4000;

/** One device on the plan. */
class Tile {
  #parts = {};
  #waits = 0;
  #shown = null;

  constructor(device, { onswitch, oninspect }) {
    this.device = device;
    this.isSwitch = SWITCHES.has(device.kind);
    this.node = svg('g', {
      class: 'tile', role: this.isSwitch ? 'switch' : 'button', tabindex: '-1', 'data-kind': device.kind, 'data-id': device.id,
      click: (event) => (this.isSwitch && !event.shiftKey ? onswitch(this) : oninspect(this.device.id)),
      keydown: (event) => {
        if (event.key === 'i') oninspect(this.device.id);
        else if (event.key === 'Enter' || event.key === ' ') {
          event.preventDefault();
          if (this.isSwitch) onswitch(this);
          else oninspect(this.device.id);
        }
      },
    });
  }

  /** Draws it for a width, which is only known when the plan is. */
  place({ x, y, width, height }) {
    setAttribute(this.node, 'transform', `translate(${x} ${y})`);
    if (this.#parts.width === width) return;
    const middle = width / 2;
    const at = (top, name) => svg('text', { x: middle, y: top, class: name, 'aria-hidden': 'true' });
    this.#parts = { width, value: at(43, 'value'), name: at(56, 'name'), title: svg('title') };
    const box = svg('rect', { class: 'box', x: 2, y: 2, width: width - 4, height: height - 4, rx: 7 });
    this.node.replaceChildren(this.#parts.title, box, ...this.#body(width, middle), this.#parts.value, this.#parts.name);
    this.#shown = null;
    this.paint();
  }

  #body(width, middle) {
    const { kind } = this.device;
    const isWide = width >= 150;
    if (kind === 'meter' && isWide) {
      this.#parts.spark = new Sparkline(width - 98, 40);
      return [symbol(kind, 29, 6), svg('g', { transform: 'translate(86 11)' }, this.#parts.spark.node)];
    }
    if (kind === 'phone' && isWide) {
      this.#parts.news = svg('text', { x: 84, y: 36, class: 'news', 'aria-hidden': 'true' });
      return [symbol(kind, 29, 6), this.#parts.news];
    }
    if (kind === 'camera') {
      this.#parts.image = svg('image', {
        x: 5, y: 5, width: width - 10, height: 41, preserveAspectRatio: 'xMidYMid slice', 'aria-hidden': 'true',
      });
      return [symbol(kind, middle - 12, 8), this.#parts.image];
    }
    const glow = kind === 'lamp' ? [svg('circle', { class: 'glow', cx: middle, cy: 18, r: 25, fill: 'url(#glow)' })] : [];
    return [...glow, symbol(kind, middle - 12, 6)];
  }

  /** A command is under way. */
  wait() {
    this.#waits = performance.now() + PATIENCE;
    this.node.dataset.waits = '';
  }

  /** Shows what is known now. */
  paint() {
    const { device, node } = this;
    const { value, name, title, image, news, spark, width } = this.#parts;
    if (!value) return;
    const shown = [device.label, device.picture, device.text, device.total].join('|');
    spark?.paint(device.history);
    if (shown === this.#shown) return;
    this.#shown = shown;
    if ('waits' in node.dataset) this.settle();
    const isAway = device.status === 'asleep' || device.status === 'offline';
    node.dataset.on = device.isOn;
    node.dataset.status = device.status || 'online';
    node.dataset.known = device.isKnown;
    setText(value, image && device.picture ? '' : device.word);
    setText(name, isAway ? device.status : (SHORT[device.name] ?? device.name));
    setAttribute(node, 'aria-label', device.label);
    if (this.isSwitch) setAttribute(node, 'aria-checked', String(device.isOn));
    setText(title, `${device.id}: ${device.word}${isAway ? `, ${device.status}` : ''}`);
    if (image && device.picture) setAttribute(image, 'href', device.picture);
    for (const text of news || spark ? [value, name] : []) setAttribute(text, 'x', '41');
    if (news) setText(news, clip(device.text ?? 'no notification yet', (width - 96) / 6.4));
    if (spark && device.total !== undefined) setText(name, `${Number(device.total).toFixed(2)} kWh`);
  }

  settle() {
    if (!this.#waits) return;
    this.#waits = 0;
    delete this.node.dataset.waits;
  }

  /** Whether a command was not followed in time; told once. */
  get isLate() {
    const isLate = this.#waits > 0 && performance.now() > this.#waits;
    if (isLate) this.settle();
    return isLate;
  }
}

const clip = (text, letters) => (text.length > letters ? `${text.slice(0, Math.max(1, Math.floor(letters) - 1))}…` : text);

/** The whole plan in an `<svg>`. */
export class House {
  #root;
  #home;
  #actions;
  #tiles = new Map();
  #rooms = new Map();
  #dirty = new Set();
  #places = null;
  #paint = painter(() => this.#flush());

  /** `actions`: `onswitch(device)` and `oninspect(client id)`. */
  constructor(root, home, actions) {
    this.#root = root;
    this.#home = home;
    this.#actions = actions;
    new ResizeObserver(() => this.#place()).observe(root.parentElement);
    roving(root, () => this.#order(), (node) => node.getBoundingClientRect());
  }

  /** Draws everything anew: the devices are others than before. */
  rebuild() {
    const actions = {
      oninspect: this.#actions.oninspect,
      onswitch: (tile) => {
        tile.wait();
        this.#actions.onswitch(tile.device);
      },
    };
    const rooms = new Map();
    this.#tiles = new Map();
    for (const device of this.#home.devices.values()) {
      if (!device.isShown) continue;
      if (!rooms.has(device.room)) rooms.set(device.room, []);
      rooms.get(device.room).push(device);
      this.#tiles.set(device.id, new Tile(device, actions));
    }
    this.#rooms = new Map(Object.keys(ROOMS).filter((name) => rooms.has(name)).map((name) => {
      const tiles = rooms.get(name).map(({ id }) => this.#tiles.get(id).node);
      const floor = svg('rect', { class: `floor ${name}` });
      const title = svg('text', { class: 'room-name', 'aria-hidden': 'true' }, name === 'everywhere' ? '' : ROOMS[name]);
      const node = svg('g', { role: 'group', 'aria-label': ROOMS[name], class: 'room' }, floor, title, ...tiles);
      return [name, { node, floor, title, devices: rooms.get(name) }];
    }));
    this.#places = null;
    this.#place();
    this.#order()[0]?.setAttribute('tabindex', '0');
  }

  /** A device has something new to show. */
  touch(id) {
    this.#dirty.add(id);
    this.#paint();
  }

  /** Devices that did not follow their command. */
  late() {
    return [...this.#tiles.values()].filter((tile) => tile.isLate).map((tile) => tile.device);
  }

  #order() {
    return [...this.#root.querySelectorAll('.tile')];
  }

  #place() {
    const width = Math.floor(this.#root.parentElement.clientWidth);
    if (!width || !this.#rooms.size || this.#places?.width === width) return;
    const members = new Map([...this.#rooms].map(([name, { devices }]) => [name, devices]));
    const places = plan(width, members);
    this.#places = { ...places, width };
    setAttribute(this.#root, 'viewBox', `0 0 ${width} ${places.height}`);
    setAttribute(this.#root, 'width', String(width));
    setAttribute(this.#root, 'height', String(places.height));
    for (const [name, { floor, title }] of this.#rooms) {
      const { x, y, ...size } = places.rooms.get(name);
      for (const [key, value] of Object.entries({ x, y, ...size })) setAttribute(floor, key, String(value));
      setAttribute(title, 'x', String(x + 11));
      setAttribute(title, 'y', String(y + 18));
    }
    for (const [id, rectangle] of places.devices) this.#tiles.get(id).place(rectangle);
    const { house } = places;
    const draw = (name, lines) => lines.map(([x1, y1, x2, y2]) => svg('line', { class: name, x1, y1, x2, y2 }));
    const walls = svg('g', { 'aria-hidden': 'true' }, svg('rect', { class: 'outer', ...house }),
      ...draw('way', ways(places)), ...draw('pane', panes(places)));
    const glow = this.#root.querySelector('defs');
    this.#root.replaceChildren(glow, ...[...this.#rooms.values()].map(({ node }) => node), walls);
    this.#light();
  }

  #flush() {
    for (const id of this.#dirty) this.#tiles.get(id)?.paint();
    this.#dirty.clear();
    this.#light();
  }

  /** A room with a lamp on is lit, one with smoke is in alarm. */
  #light() {
    for (const { floor, devices } of this.#rooms.values()) {
      floor.dataset.lit = devices.some(({ kind, isOn, status }) => kind === 'lamp' && isOn && status !== 'offline');
      floor.dataset.alarm = devices.some(({ kind, isOn }) => kind === 'smoke' && isOn);
    }
  }
}
