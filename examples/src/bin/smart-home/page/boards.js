// Ledger, faults, rules and events.

import { byId, duration, html, setText, thousands } from './dom.js';

const count = (value) => (Number.isFinite(value) ? value : 0);

/** The numbers that have to be right. */
export class Ledger {
  #cells = new Map();
  #alarm = '';

  constructor() {
    for (const cell of document.querySelectorAll('[data-ledger]')) this.#cells.set(cell.dataset.ledger, cell);
  }

  show(ledger) {
    for (const [name, cell] of this.#cells) {
      const [field, qos] = name.split('.');
      const value = count(qos ? ledger[field]?.[qos] : ledger[field]);
      setText(cell, thousands(value));
      cell.classList.toggle('bad', value > 0 && cell.dataset.must === '0');
    }
    const [lost, disordered, twice] = [count(ledger.lost), count(ledger.out_of_order), count(ledger.duplicate?.[2])];
    byId('lost-box').dataset.bad = lost > 0;
    byId('order-box').dataset.bad = disordered > 0;
    const wrong = [lost && `${lost} lost`, disordered && `${disordered} out of order`, twice && `${twice} delivered twice at QoS 2`];
    const alarm = wrong.filter(Boolean).join(', ');
    const hasBegun = count(ledger.delivered?.[1]) + count(ledger.delivered?.[2]) > 0;
    setText(byId('verdict'), alarm || (hasBegun ? 'Nothing lost, nothing out of order.' : 'Nothing delivered yet.'));
    byId('verdict').dataset.bad = alarm !== '';
    // Announced once for each alarm, not with every number.
    if (alarm && !this.#alarm) setText(byId('alarm'), `Alarm: ${alarm}`);
    this.#alarm = alarm;
  }
}

/** A button for each fault. */
export class Faults {
  #list = byId('faults');
  #cards = new Map();
  #onbreak;

  /** `onbreak(name)` promises `{ ok, text }`. */
  constructor(onbreak) {
    this.#onbreak = onbreak;
  }

  show(faults) {
    if (!Array.isArray(faults)) return;
    for (const fault of faults) {
      if (typeof fault?.name !== 'string') continue;
      if (!this.#cards.has(fault.name)) this.#cards.set(fault.name, this.#card(fault));
      this.#update(this.#cards.get(fault.name), fault);
    }
  }

  #card({ name, title, text }) {
    const state = html('span', { class: 'state' });
    const button = html('button', { type: 'button', 'data-fault': name, 'aria-describedby': `fault-${name}` }, String(title ?? name));
    const card = { node: html('li', {}, button, state, html('p', { id: `fault-${name}` }, String(text ?? ''))), button, state, until: 0, most: 0 };
    button.addEventListener('click', () => this.#press(card, name, String(title ?? name)));
    this.#list.append(card.node);
    return card;
  }

  async #press(card, name, title) {
    if (card.button.getAttribute('aria-disabled') === 'true') return announce(`${title}: still going on`);
    card.button.setAttribute('aria-disabled', 'true');
    try {
      const { ok, text } = await this.#onbreak(name);
      announce(`${title}: ${ok ? text : `refused: ${text}`}`);
    } catch (error) {
      announce(`${title}: ${error.message}`);
    }
    card.button.setAttribute('aria-disabled', String(card.isActive === true));
    return undefined;
  }

  #update(card, { active, left_ms: left }) {
    card.isActive = active === true;
    card.node.dataset.active = card.isActive;
    card.button.setAttribute('aria-disabled', String(card.isActive));
    card.most = card.isActive ? Math.max(card.most, count(left)) : 0;
    setText(card.state, card.isActive ? (Number.isFinite(left) ? `${duration(left / 1000)} left` : 'going on') : '');
    card.node.style.setProperty('--left', card.most ? String(count(left) / card.most) : '0');
  }
}

/** Says something to everybody, screen readers included. */
export function announce(text) {
  // The same text twice is two announcements.
  byId('result').replaceChildren(html('span', {}, text));
}

/** The rules with what made them act last. */
export class Rules {
  #shown = '';

  show({ file, rules, error }) {
    const shown = JSON.stringify([file, rules, error]);
    if (shown === this.#shown || !Array.isArray(rules)) return;
    this.#shown = shown;
    setText(byId('rules-file'), file ? `From ${file}; changes are taken while the house runs.` : 'The rules that come with the program.');
    const problem = byId('rules-error');
    problem.hidden = typeof error !== 'string';
    setText(problem, typeof error === 'string' ? `The old rules go on: ${error}` : '');
    byId('rules-list').replaceChildren(...rules.map(({ name, text, fired, cause, at }) => html('li', {},
      html('div', { class: 'rule-head' }, html('strong', {}, String(name)), html('span', { class: 'fired' }, fired ? `${thousands(fired)} ×` : 'not yet')),
      html('code', {}, String(text ?? '')),
      html('p', { class: 'cause' }, cause ? `Last: ${cause}${Number.isFinite(at) ? ` at ${duration(at / 1000)}` : ''}` : ''))));
  }
}

/** What happened, the newest first. */
export class Events {
  #list = byId('events-list');

  show({ at, kind, client, text }) {
    const line = html('li', { 'data-kind': String(kind) },
      html('span', { class: 'at' }, Number.isFinite(at) ? `${(at / 1000).toFixed(1)} s` : ''),
      html('span', { class: 'kind' }, String(kind)),
      html('span', { class: 'text' }, client ? html('b', {}, String(client)) : null, ` ${text ?? ''}`));
    this.#list.prepend(line);
    while (this.#list.children.length > 80) this.#list.lastChild.remove();
  }
}
