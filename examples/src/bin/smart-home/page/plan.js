// Where the rooms and the devices in them stand for a given width: numbers only, in pixels.

/** Rooms in rows, with their shares of the width; the first that fits is taken. */
const PLANS = [
  {
    least: 880,
    rows: [
      [['bedroom', 3], ['bath', 3], ['nursery', 3], ['guest', 3]],
      [['hall', 3], ['office', 3], ['laundry', 3], ['garage', 3]],
      [['living', 5], ['dining', 3], ['kitchen', 4]],
    ],
  },
  {
    least: 560,
    rows: [
      [['bedroom', 4], ['bath', 4], ['nursery', 4]],
      [['hall', 4], ['office', 4], ['guest', 4]],
      [['living', 7], ['garage', 5]],
      [['dining', 4], ['kitchen', 4], ['laundry', 4]],
    ],
  },
  {
    least: 0,
    rows: [
      [['hall', 6], ['living', 6]], [['kitchen', 6], ['dining', 6]], [['bedroom', 6], ['nursery', 6]],
      [['bath', 6], ['guest', 6]], [['office', 6], ['laundry', 6]], [['garage', 12]],
    ],
  },
];
const SHARES = 12;
/** Between the house and what lies outside. */
const GAP = 14;
const PAD = 7;
const TITLE = 25;
export const TILE = { least: 52, narrow: 46, most: 66, height: 63 };
/** Between lines of tiles, where there is room for it. */
const AIR = 6;
/** Three tiles stand side by side in a room of a phone's page. */
const NARROW_ROOM = 170;
const SPANS = { camera: 2 };
/** What belongs to no room stands side by side, with these shares of the width; the phone below where that is narrow. */
const WIDE = { meter: 4, phone: 6, rules: 2 };
const NARROW = { meter: 8, phone: 12, rules: 4 };

/** `rooms`: devices by the name of their room. Answers the height, a rectangle for each room and for each device. */
export function plan(width, rooms) {
  const { rows } = PLANS.find(({ least }) => width >= least);
  const places = { rooms: new Map(), devices: new Map(), height: 0, house: null };
  const outside = (name) => {
    if (!rooms.has(name)) return;
    places.height += row(places, [[name, SHARES]], width, rooms);
  };
  outside('everywhere');
  if (places.height) places.height += GAP;
  const top = places.height;
  for (const one of rows) places.height += row(places, one, width, rooms);
  places.house = { x: 1, y: top, width: width - 2, height: places.height - top };
  places.height += GAP;
  outside('garden');
  places.height += 2;
  return places;
}

function row(places, names, width, rooms) {
  const y = places.height;
  const unit = (width - 2) / SHARES;
  let x = 1;
  let height = 0;
  for (const [name, shares] of names) {
    const rectangle = { x: Math.round(x), y, width: Math.round(x + shares * unit) - Math.round(x), height: 0 };
    places.rooms.set(name, rectangle);
    const place = name === 'everywhere' ? share : fill;
    const pitch = TILE.height + (width >= PLANS[0].least ? AIR : 0);
    height = Math.max(height, place(places.devices, rectangle, rooms.get(name) ?? [], pitch));
    x += shares * unit;
  }
  for (const [name] of names) places.rooms.get(name).height = height;
  return height;
}

/** Places devices from left to right, like words; answers the height that takes. */
function fill(devices, { x, y, width }, members, pitch) {
  const inner = width - 2 * PAD;
  const columns = Math.max(1, Math.floor(inner / (width < NARROW_ROOM ? TILE.narrow : TILE.least)));
  const each = Math.min(TILE.most, Math.floor(inner / columns));
  let column = 0;
  let line = 0;
  for (const { id, kind } of members) {
    const span = Math.min(columns, SPANS[kind] ?? 1);
    if (column + span > columns) [column, line] = [0, line + 1];
    devices.set(id, {
      x: x + PAD + column * each, y: y + TITLE + line * pitch, width: span * each, height: TILE.height,
    });
    column += span;
  }
  return TITLE + (line + 1) * pitch + PAD;
}

/** Shares the width among the few that belong to no room; answers the height that takes. */
function share(devices, { x, y, width }, members) {
  const inner = width - 2 * PAD;
  const shares = width >= PLANS[1].least ? WIDE : NARROW;
  const order = ['meter', 'rules', 'phone'];
  const known = [...members].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  let column = 0;
  let line = 0;
  for (const { id, kind } of known) {
    const span = shares[kind] ?? 2;
    if (column + span > SHARES) [column, line] = [0, line + 1];
    const left = Math.round((column * inner) / SHARES);
    devices.set(id, {
      x: x + PAD + left, y: y + 6 + line * TILE.height, width: Math.round(((column + span) * inner) / SHARES) - left, height: TILE.height,
    });
    column += span;
  }
  return 12 + (line + 1) * TILE.height;
}

/** Ways between rooms, as far as they lie side by side in this plan. */
const WAYS = [
  ['hall', 'office'], ['hall', 'living'], ['hall', 'bedroom'], ['living', 'dining'], ['dining', 'kitchen'], ['office', 'laundry'],
  ['laundry', 'garage'], ['bedroom', 'bath'], ['bath', 'nursery'], ['nursery', 'guest'], ['office', 'bath'], ['laundry', 'nursery'],
  ['garage', 'guest'], ['kitchen', 'dining'], ['guest', 'office'], ['office', 'dining'], ['kitchen', 'laundry'],
];
const OPENING = 34;

/** Lines where a wall is open, `[x1, y1, x2, y2]`. */
export function ways({ rooms }) {
  return WAYS.flatMap(([one, other]) => {
    const [a, b] = [rooms.get(one), rooms.get(other)];
    if (!a || !b) return [];
    const [left, right] = a.x < b.x ? [a, b] : [b, a];
    const [upper, lower] = a.y < b.y ? [a, b] : [b, a];
    if (a.y === b.y && left.x + left.width === right.x) {
      const y = a.y + a.height - OPENING - 10;
      return [[right.x, y, right.x, y + OPENING]];
    }
    const from = Math.max(a.x, b.x);
    const to = Math.min(a.x + a.width, b.x + b.width);
    if (upper.y + upper.height === lower.y && to - from > 2 * OPENING) {
      const x = (from + to - OPENING) / 2;
      return [[x, lower.y, x + OPENING, lower.y]];
    }
    return [];
  });
}

/** Lines where the outer wall has glass, `[x1, y1, x2, y2]`: one for each room at the outside. */
export function panes({ rooms, house }) {
  const lines = [];
  for (const [name, { x, y, width, height }] of rooms) {
    if (name === 'garden' || name === 'everywhere') continue;
    const middle = x + width / 2;
    const half = Math.min(44, width / 4);
    if (y === house.y) lines.push([middle - half, y, middle + half, y]);
    else if (y + height === house.y + house.height) lines.push([middle - half, y + height, middle + half, y + height]);
    else if (x === house.x) lines.push([x, y + height / 2 - half, x, y + height / 2 + half]);
    else if (x + width >= house.x + house.width) lines.push([x + width, y + height / 2 - half, x + width, y + height / 2 + half]);
  }
  return lines;
}
