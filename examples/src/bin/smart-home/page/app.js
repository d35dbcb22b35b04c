// Joins the parts: what the broker sends goes to whoever shows it, what is clicked goes to the broker.

import { announce, Events, Faults, Ledger, Rules } from './boards.js';
import { byId, setText } from './dom.js';
import { House } from './house.js';
import { Home } from './model.js';
import { Client } from './mqtt.js';
import { Panel } from './panel.js';
import { KEPT } from './sparkline.js';
import { Topology } from './topology.js';

const FILTERS = [['house/clients', 1], ['house/ledger', 0], ['house/rules', 1], ['house/faults', 0], ['house/events', 0],
  ['house/traffic', 0], ['home/#', 0]];
const utf8 = new TextDecoder();

const home = new Home();
const panel = new Panel(inspect);
const house = new House(byId('plan'), home, { onswitch: command, oninspect: (id) => panel.open(id) });
const topology = new Topology(byId('stage'), byId('caption'), byId('pause'), home, (id) => panel.open(id));
const ledger = new Ledger();
const rules = new Rules();
const events = new Events();
// The house itself may be what is cut off: then its answer comes when it is back.
const faults = new Faults((name) => ask(`house/break/${name}`, {}, 30_000));
const id = `page-${Array.from(crypto.getRandomValues(new Uint8Array(4)), (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
let client = null;

begin();

async function begin() {
  let url;
  try {
    const answer = await fetch('/config.json', { cache: 'no-store' });
    ({ websocket: url } = await answer.json());
  } catch {
    return say('waiting', 'The program does not answer: is it running?');
  }
  client = new Client(url, { clientId: id, filters: FILTERS });
  client.onmessage = take;
  client.onstate = ({ name, text, retryIn }) => say(name, retryIn ? `${text}; next attempt in ${(retryIn / 1000).toFixed(1)} s` : text);
  client.start();
  setInterval(complain, 1000);
  return undefined;
}

function say(name, text) {
  byId('link').dataset.state = name;
  setText(byId('link-text'), text);
}

/** A message: of the house's own feed, or of a device. */
function take({ topic, payload }) {
  const levels = topic.split('/');
  if (levels[0] === 'house') {
    const value = parse(payload);
    if (value) tell(topic, value);
  } else if (levels.length === 4 && levels[3] === 'snapshot') {
    picture(`${levels[1]}-${levels[2]}`, payload);
  } else if (levels[0] === 'home' && levels[3] !== 'set') {
    const value = parse(payload);
    if (value) device(levels, value);
  }
}

/** JSON, if it is an object. */
function parse(payload) {
  try {
    const value = JSON.parse(utf8.decode(payload));
    return value !== null && typeof value === 'object' ? value : null;
  } catch {
    return null;
  }
}

function tell(topic, value) {
  switch (topic) {
    case 'house/clients':
      if (home.introduce(value.clients)) {
        house.rebuild();
        // The tiles come first; this is farther down.
        requestIdleCallback(() => topology.rebuild(), { timeout: 1000 });
      }
      break;
    case 'house/ledger': ledger.show(value); break;
    case 'house/rules':
      rules.show(value);
      if (Array.isArray(value.rules)) note('rules', { value: value.rules.reduce((sum, { fired }) => sum + (fired || 0), 0) });
      break;
    case 'house/faults': faults.show(value.faults); break;
    case 'house/events': events.show(value); break;
    case 'house/traffic':
      if (Array.isArray(value.moves)) topology.show(value.moves.slice(0, 60).filter(Array.isArray));
      setText(byId('rate'), `${value.per_second?.up ?? 0} to the broker, ${value.per_second?.down ?? 0} from it, per second`);
      break;
    default:
  }
}

function device([, room, name, last], { value, from }) {
  if (value === undefined) return;
  if (room === 'energy') return energy(name, value, last);
  if (room === 'phone') return phone(name, value, last);
  const id = `${room}-${name}`;
  if (last === 'status') return note(typeof from === 'string' && !home.devices.has(id) ? from : id, { status: String(value) });
  if (last === undefined) note(id, { value });
  return undefined;
}

function energy(name, value, last) {
  if (name === 'status' || last === 'status') return note('energy-meter', { status: String(value) });
  if (name === 'total') return note('energy-meter', { total: value });
  if (name !== 'power' || !Number.isFinite(value)) return undefined;
  const history = home.devices.get('energy-meter')?.history ?? [];
  history.push(value);
  if (history.length > KEPT) history.shift();
  return note('energy-meter', { value, history });
}

function phone(name, value, last) {
  if (name === 'status' || last === 'status') return note('phone', { status: String(value) });
  if (name === 'presence') return note('phone', { value });
  if (name === 'notify') return note('phone', { text: String(value) });
  return undefined;
}

function note(id, news) {
  if (!home.note(id, news)) return;
  house.touch(id);
  if ('status' in news) topology.touch(id);
}

/** A camera's snapshot: the browser reads BMP itself. */
function picture(id, payload) {
  const known = home.devices.get(id);
  if (!known || payload[0] !== 0x42 || payload[1] !== 0x4d) return;
  const url = URL.createObjectURL(new Blob([payload], { type: 'image/bmp' }));
  const old = known.picture;
  note(id, { picture: url });
  if (old) setTimeout(() => URL.revokeObjectURL(old), 2000);
}

/** Switches a device: the tile changes when the device says so. */
async function command(of) {
  if (!of.isKnown) return announce(`${of.id} has not said yet what it is`);
  const qos = of.kind === 'lock' ? 2 : 1;
  try {
    const reason = await client.publish(`${of.topic}/set`, JSON.stringify({ value: of.opposite, from: id }), { qos });
    if (reason >= 0x80) announce(`${of.id}: the broker refused with 0x${reason.toString(16)}`);
  } catch (error) {
    announce(`${of.id}: ${error.message}`);
  }
  return undefined;
}

function complain() {
  for (const { id, status } of house.late()) announce(`${id} does not answer${status ? `: it is ${status}` : ''}`);
}

async function ask(topic, question, patience) {
  if (!client) throw new Error('not connected');
  const answer = await client.request(topic, JSON.stringify(question), patience);
  return parse(answer.payload) ?? { error: 'the answer is not JSON', ok: false, text: 'the answer is not JSON' };
}

function inspect(id) {
  return ask('house/inspect', { client: id });
}
