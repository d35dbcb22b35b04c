// A drawing for each kind of device, 24 by 24, lines in the colour of the text. Parts of class `when-on` and `when-off`
// are shown by the stylesheet as the state of the tile says.

import { svg } from './dom.js';

const line = (d, more = {}) => ['path', { d, class: 'line', ...more }];
const solid = (d, more = {}) => ['path', { d, class: 'solid', ...more }];
const on = (part) => [part[0], { ...part[1], class: `${part[1].class} when-on` }];
const off = (part) => [part[0], { ...part[1], class: `${part[1].class} when-off` }];

const SYMBOLS = {
  lamp: [
    on(solid('M12 3a6 6 0 0 0-4 10.5c.8.8 1.2 1.6 1.3 2.5h5.4c.1-.9.5-1.7 1.3-2.5A6 6 0 0 0 12 3Z')),
    line('M12 3a6 6 0 0 0-4 10.5c.8.8 1.2 1.6 1.3 2.5h5.4c.1-.9.5-1.7 1.3-2.5A6 6 0 0 0 12 3Z'),
    line('M9.6 18.7h4.8M10.4 21.2h3.2'),
    on(line('M2.5 9H1m22 0h-1.500M5 3.2 4 2.200m16 0-1 1')),
  ],
  plug: [line('M9 3v5m6-5v5M6.5 8h11v3.500a5.5 5.5 0 0 1-11 0ZM12 17v4'), on(solid('M13 9l-3 3.600h2l-1 3 3-3.600h-2Z'))],
  motion: [
    line('M13 4.500a1.6 1.6 0 1 0 .01 0M12.5 9l-3 5 3 2-1 5M12.5 9l3 3 2.5.500M9.5 14l-1 3L6 19.500M12.5 9 9 10l-1 2.5'),
    on(line('M20.5 6a8 8 0 0 1 0 11M3.5 6a8 8 0 0 0 0 11', { class: 'line pulse' })),
  ],
  door: [
    line('M5 21V3h14v18M3 21h18'),
    off(line('M15.5 12v1.5')),
    on(solid('M5 3l9 3.500v17L5 21Z')),
  ],
  window: [
    line('M4 4h16v16H4Z'),
    off(line('M12 4v16M4 12h16')),
    on(line('M12 4v16M12 7l7.5-3M12 17l7.5 3')),
    on(solid('M4.5 4.5 10 7v10l-5.5 2.500Z')),
  ],
  smoke: [
    line('M4 6h16v2.500a3 3 0 0 1-3 3H7a3 3 0 0 1-3-3ZM10 8.700h4'),
    on(line('M8 14c-1.5 1.5 1.5 3 0 4.500s1 2 0 3M12 14c-1.5 1.5 1.5 3 0 4.500s1 2 0 3M16 14c-1.5 1.5 1.5 3 0 4.500s1 2 0 3')),
  ],
  temperature: [
    line('M10 14V5a2 2 0 0 1 4 0v9a4 4 0 1 1-4 0Z'), solid('M11.2 10h1.600v6a2 2 0 1 1-1.6 0Z'), line('M17 5h2.500M17 8.500h1.5'),
  ],
  humidity: [line('M12 3c3.5 4.5 5.5 7.5 5.5 10.500a5.5 5.5 0 0 1-11 0C6.5 10.5 8.5 7.5 12 3Z'), line('M9.5 14a2.6 2.6 0 0 0 2.5 2.6')],
  brightness: [
    line('M12 8a4 4 0 1 1-.01 0ZM12 2.500v2M12 19.500v2M2.5 12h2M19.5 12h2M5.3 5.300l1.4 1.400M17.3 17.300l1.4 1.400M18.7 5.300l-1.4 1.400M6.7 17.300l-1.4 1.4'),
  ],
  heating: [
    line('M4 9h16v9H4ZM8 9v9m4-9v9m4-9v9M6 18v2.500m12-2.500v2.5'),
    on(line('M8 6.500c-1-1.2 1-2 0-3.500m4 3.500c-1-1.2 1-2 0-3.500m4 3.500c-1-1.2 1-2 0-3.5')),
  ],
  lock: [
    line('M6 11h12v9.500H6ZM12 14.500v2.5'),
    off(line('M8.5 11V8a3.5 3.5 0 0 1 7 0v3')),
    on(line('M8.5 11V7a3.5 3.5 0 0 1 6.5-1.8')),
  ],
  camera: [line('M3 7h12v10H3Zm12 3.5 6-3v9l-6-3'), solid('M6 9.500a1 1 0 1 1-.01 0Z')],
  meter: [line('M4 16a8 8 0 1 1 16 0ZM12 16l3.5-5M7 12.500l.7.5M12 9.800v.8')],
  phone: [line('M7.5 2.500h9a1.5 1.5 0 0 1 1.5 1.500v16a1.5 1.5 0 0 1-1.5 1.500h-9A1.5 1.5 0 0 1 6 20V4a1.5 1.5 0 0 1 1.5-1.500ZM10.5 18.500h3')],
  display: [line('M3 5h18v12H3ZM9 20h6M12 17v3'), line('M6.5 13.5l3-3 2.5 2 5-4.5')],
  rules: [line('M5 5h6v5H5Zm8 9h6v5h-6ZM8 10v6.500h5M11 7.500h5V14')],
};
const OTHER = [line('M5 5h14v14H5Z')];

/** The drawing, with its upper left corner at `x`, `y`. */
export function symbol(kind, x, y) {
  const parts = SYMBOLS[kind] ?? OTHER;
  const drawn = parts.map(([name, attributes]) => svg(name, attributes));
  return svg('g', { class: 'symbol', transform: `translate(${x} ${y})`, 'aria-hidden': 'true' }, ...drawn);
}
