// What the broker knows of one client: asked for while the panel is open.

import { byId, duration, html, setText, thousands } from './dom.js';

/** In milliseconds. */
const EVERY = 1000;

export class Panel {
  #panel = byId('panel');
  #title = byId('panel-title');
  #body = byId('panel-body');
  #ask;
  #id = null;
  #from = null;
  #timer = 0;
  #shown = '';

  /** `ask(client id)` promises what the broker knows. */
  constructor(ask) {
    this.#ask = ask;
    byId('panel-close').addEventListener('click', () => this.close());
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.#id) this.close();
    });
  }

  open(id) {
    if (this.#id === null) this.#from = document.activeElement;
    this.#id = id;
    this.#panel.hidden = false;
    document.body.classList.add('has-panel');
    setText(this.#title, id);
    this.#say('Asking the broker…');
    this.#title.focus();
    this.#refresh();
  }

  close() {
    clearTimeout(this.#timer);
    this.#id = null;
    this.#panel.hidden = true;
    document.body.classList.remove('has-panel');
    this.#from?.focus?.();
    this.#from = null;
  }

  async #refresh() {
    clearTimeout(this.#timer);
    const id = this.#id;
    let answer;
    try {
      answer = document.hidden ? null : await this.#ask(id);
    } catch (error) {
      answer = { error: error.message };
    }
    if (this.#id !== id) return;
    if (answer) this.#show(answer);
    this.#timer = setTimeout(() => this.#refresh(), EVERY);
  }

  #say(text) {
    this.#shown = '';
    this.#body.replaceChildren(html('p', {}, text));
  }

  #show(answer) {
    const shown = JSON.stringify(answer);
    if (shown === this.#shown) return;
    if (typeof answer.error === 'string') return this.#say(answer.error);
    const { session = {}, window = {}, queue = {}, subscriptions = [], packets = [] } = answer;
    const expiry = session.expiry_s;
    const facts = [
      ['Connection', answer.connected ? `MQTT ${answer.version}${answer.address ? ` from ${answer.address}` : ''}` : 'none at present'],
      ['Session', expiry === null || expiry === undefined ? 'never expires' : expiry === 0 ? 'ends with the connection'
        : `outlives the connection by ${duration(expiry)}`],
      ...(Number.isFinite(session.since_ms) ? [['Since', duration(session.since_ms / 1000)]] : []),
      ['Window', `${thousands(window.in_flight ?? 0)} in flight${window.receive_maximum ? ` of ${thousands(window.receive_maximum)}` : ''}`],
      ['Queue', `${thousands(queue.messages ?? 0)} messages, ${thousands(queue.bytes ?? 0)} bytes`],
    ];
    this.#body.replaceChildren(
      html('dl', {}, ...facts.flatMap(([name, value]) => [html('dt', {}, name), html('dd', {}, value)])),
      html('h3', {}, `Subscriptions (${subscriptions.length})`),
      subscriptions.length
        ? html('ul', { class: 'filters' }, ...subscriptions.map(({ filter, qos }) => html('li', {}, html('code', {}, filter), ` QoS ${qos}`)))
        : html('p', { class: 'quiet' }, 'none'),
      html('h3', {}, 'Last packets'),
      packets.length ? html('ol', { class: 'packets', reversed: true }, ...packets.toReversed().map(row))
        : html('p', { class: 'quiet' }, 'none'),
    );
    // Set last: `#say` clears it.
    this.#shown = shown;
    return undefined;
  }
}

const row = ({ at, way, text }) => html('li', { 'data-way': way },
  html('span', { class: 'at' }, `${(at / 1000).toFixed(1)} s`),
  html('span', { class: 'way' }, way === 'in' ? 'to broker' : 'to client'), html('span', {}, text));
