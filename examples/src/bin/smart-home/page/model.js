// What the page knows of the house: filled by messages, shown by the other modules.

export const ROOMS = {
  everywhere: 'Everywhere', hall: 'Hall', living: 'Living room', kitchen: 'Kitchen', dining: 'Dining room', office: 'Office',
  bedroom: 'Bedroom', nursery: 'Nursery', guest: 'Guest room', bath: 'Bath', laundry: 'Laundry', garage: 'Garage',
  garden: 'Garden',
};
/** What belongs to no room. */
const EVERYWHERE = new Set(['meter', 'phone', 'rules']);
/** They have nothing to say but that they are there. */
const SILENT = new Set(['display', 'house']);
export const SWITCHES = new Set(['lamp', 'plug', 'lock']);
/** Whoever publishes cannot make the page keep more than this. */
const MAX_DEVICES = 1000;

const number = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : '–');
const WORDS = {
  lamp: (value) => (value ? 'on' : 'off'),
  plug: (value) => (value ? 'on' : 'off'),
  heating: (value) => (typeof value === 'number' ? `${number(value, 0)}°` : value ? 'on' : 'off'),
  motion: (value) => (value ? 'motion' : 'quiet'),
  smoke: (value) => (value ? 'SMOKE' : 'clear'),
  temperature: (value) => `${number(value, 1)}°`,
  humidity: (value) => `${number(value, 0)} %`,
  brightness: (value) => `${number(value, 0)} lx`,
  // The whole word is wider than a tile.
  lock: (value) => (value === 'unlocked' ? 'open' : String(value)),
  rules: (value) => `${number(value, 0)} fired`,
  meter: (value) => `${number(value, 0)} W`,
};
const LONG = { lock: String, temperature: (value) => `${number(value, 1)} degrees Celsius`, brightness: (value) => `${number(value, 0)} lux` };

/** A device, and the client of the broker that it is. */
export class Device {
  constructor({ id, room, device, kind, version, power }) {
    Object.assign(this, { id, kind: String(kind), version, power, status: '', value: undefined, picture: null });
    this.topic = `home/${room}/${device}`;
    this.room = !EVERYWHERE.has(this.kind) && Object.hasOwn(ROOMS, room) ? room : 'everywhere';
    /** Whether it has a tile: the program's own feed has none. */
    this.isShown = this.kind !== 'house';
    this.name = String(device ?? id).replaceAll('-', ' ');
  }

  /** Something is on, open or wrong: the drawing shows it. */
  get isOn() {
    const { value } = this;
    if (this.kind === 'phone') return value === 'home';
    return value === true || value === 'open' || value === 'unlocked' || (this.kind === 'heating' && value > 0);
  }

  get isKnown() {
    return this.value !== undefined || (SILENT.has(this.kind) && this.status !== '');
  }

  /** The value in a few letters. */
  get word() {
    if (!this.isKnown) return '…';
    if (this.value === undefined) return this.status;
    const word = WORDS[this.kind];
    return word ? word(this.value) : String(this.value);
  }

  /** The name that a screen reader says. */
  get label() {
    const where = this.room === 'everywhere' ? '' : `, ${ROOMS[this.room].toLowerCase()}`;
    const value = this.isKnown ? (LONG[this.kind]?.(this.value) ?? this.word) : 'nothing heard yet';
    const status = this.status === 'asleep' || this.status === 'offline' ? `, ${this.status}` : '';
    const name = this.name[0].toUpperCase() + this.name.slice(1);
    return `${name}${where}: ${value}${status}`;
  }

  /** What a command would ask for. */
  get opposite() {
    return this.kind === 'lock' ? (this.value === 'locked' ? 'unlocked' : 'locked') : !this.value;
  }
}

/** All devices by client id, and what was heard of some before they were introduced. */
export class Home {
  devices = new Map();
  #heard = new Map();
  #list = '';

  /** Takes the list; whether it is another one than before. */
  introduce(clients) {
    const list = JSON.stringify(clients);
    if (list === this.#list || !Array.isArray(clients)) return false;
    this.#list = list;
    const known = this.devices;
    this.devices = new Map();
    for (const client of clients.slice(0, MAX_DEVICES)) {
      if (typeof client?.id !== 'string') continue;
      const device = new Device(client);
      const { value, status, picture, text, history, total } = known.get(device.id) ?? {};
      Object.assign(device, { value, status: status ?? '', picture: picture ?? null, text, history, total }, this.#heard.get(device.id));
      this.devices.set(device.id, device);
    }
    this.#heard.clear();
    return true;
  }

  /** Notes what is new of a device; the device, if it is known. */
  note(id, news) {
    const device = this.devices.get(id);
    if (device) Object.assign(device, news);
    else if (this.#heard.size < MAX_DEVICES) this.#heard.set(id, { ...this.#heard.get(id), ...news });
    return device;
  }
}
