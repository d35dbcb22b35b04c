// The few things that the other modules need of the document. Text goes in as text, never as markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of HTML; a function among the attributes is a listener. */
export function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An element of SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export const byId = (id) => document.getElementById(id);

/** Sets the text if it is another one: the same text again would be announced and painted again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** One of many is in the tab order; arrow keys, Home and End move on. `items()` are in reading order. */
export function roving(container, items, place) {
  container.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const all = items();
    const at = all.indexOf(event.target.closest('[tabindex]'));
    const next = at < 0 ? undefined : step(event.key, all, at, place);
    if (next === undefined) return;
    event.preventDefault();
    rove(all, next);
    next.focus();
  });
  container.addEventListener('focusin', (event) => {
    const item = event.target.closest('[tabindex]');
    if (items().includes(item)) rove(items(), item);
  });
}

function rove(all, current) {
  for (const item of all) setAttribute(item, 'tabindex', item === current ? '0' : '-1');
}

function step(key, all, at, place) {
  switch (key) {
    case 'ArrowRight': return all[(at + 1) % all.length];
    case 'ArrowLeft': return all[(at + all.length - 1) % all.length];
    case 'Home': return all[0];
    case 'End': return all[all.length - 1];
    case 'ArrowUp': return nearest(all, at, place, -1);
    case 'ArrowDown': return nearest(all, at, place, 1);
    default: return undefined;
  }
}

/** The next one above or below: sideways counts three times, so that a column is kept. */
function nearest(all, at, place, way) {
  const from = place(all[at]);
  const distance = (item) => {
    const { x, y } = place(item);
    const down = (y - from.y) * way;
    return down < 8 ? Infinity : down + 3 * Math.abs(x - from.x);
  };
  const best = all.reduce((found, item) => (distance(item) < distance(found) ? item : found), all[at]);
  return distance(best) === Infinity ? undefined : best;
}

/** Runs `paint` with the next picture of the screen, however often it is asked for; never while the page is hidden. */
export function painter(paint) {
  let isAsked = false;
  return () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      paint();
    });
  };
}

const english = new Intl.NumberFormat('en');
export const thousands = (value) => english.format(value);

/** `95` seconds as `1 min 35 s`. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
