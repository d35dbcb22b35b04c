// The page's client against a broker that the test plays.

import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { mock, test } from 'node:test';

import { Client } from '../../examples/src/bin/smart-home/page/mqtt.js';

globalThis.crypto ??= webcrypto;

const bytes = (hex) => Uint8Array.from(hex.replaceAll(' ', '').match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (array) => Array.from(array, (byte) => byte.toString(16).padStart(2, '0')).join('');
const settle = () => new Promise((resolve) => setImmediate(resolve));

class Socket {
  readyState = 1;
  sent = [];

  send(frame) {
    this.sent.push(hex(frame));
  }

  close() {
    this.readyState = 3;
  }

  bring(wire) {
    this.onmessage({ data: bytes(wire).buffer });
  }

  /** What was sent since the last time. */
  take() {
    return this.sent.splice(0);
  }
}

/** A client whose random number is one half, and the sockets that it opened. */
function start({ connack = '20 03 00 00 00', ...options } = {}) {
  const sockets = [];
  const states = [];
  const messages = [];
  const open = () => {
    sockets.push(new Socket());
    return sockets.at(-1);
  };
  const client = new Client('ws://test', { clientId: 'p', filters: [['a', 1]], open, random: () => 0.5, ...options });
  client.onstate = (state) => states.push(state);
  client.onmessage = (message) => messages.push(message);
  client.start();
  const accept = () => {
    sockets.at(-1).onopen();
    sockets.at(-1).bring(connack);
    const [connect, subscribe] = sockets.at(-1).take();
    assert.match(connect, /^10/);
    sockets.at(-1).bring(`90 05 ${subscribe.slice(4, 8)} 00 01 01`);
  };
  return { client, sockets, states, messages, accept, socket: () => sockets.at(-1) };
}

/** With a clock that the test moves. */
function timed(name, run) {
  test(name, async () => {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
    try {
      await run();
    } finally {
      mock.timers.reset();
    }
  });
}

timed('subscribes to its replies and to what it is told', () => {
  const { sockets, states } = start();
  sockets[0].onopen();
  sockets[0].bring('20 03 00 00 00');
  const reply = hex(new TextEncoder().encode('response/p'));
  assert.equal(sockets[0].take()[1], `8214000100000a${reply}0100016101`);
  assert.deepEqual(states.map(({ name }) => name), ['connecting', 'connected']);
});

timed('delivers each QoS as it should be, and QoS 2 once', () => {
  const { accept, socket, messages } = start();
  accept();
  socket().bring('30 04 00 01 61 00');
  assert.deepEqual(socket().take(), []);
  socket().bring('32 06 00 01 62 00 07 00');
  assert.deepEqual(socket().take(), ['40020007']);
  socket().bring('34 06 00 01 63 00 08 00');
  socket().bring('3c 06 00 01 63 00 08 00');
  assert.deepEqual(socket().take(), ['50020008', '50020008']);
  socket().bring('62 02 00 08 62 02 00 08');
  assert.deepEqual(socket().take(), ['70020008', '7003000892']);
  assert.deepEqual(messages.map(({ topic }) => topic), ['a', 'b', 'c']);
});

timed('a listener that throws does not end the connection', () => {
  const { client, accept, socket, sockets } = start();
  accept();
  const complain = mock.method(console, 'error', () => {});
  client.onmessage = () => {
    throw new Error('a mistake of the page');
  };
  socket().bring('32 06 00 01 62 00 07 00');
  assert.equal(complain.mock.callCount(), 1);
  complain.mock.restore();
  assert.deepEqual([socket().take(), sockets.length, client.isConnected], [['40020007'], 1, true]);
});

timed('publishes with each QoS, within the Receive Maximum', async () => {
  const { client, accept, socket } = start({ connack: '20 06 00 00 03 21 00 01' });
  accept();
  assert.equal(await client.publish('t', 'x'), 0);
  assert.deepEqual(socket().take(), ['300500017400' + '78']);
  const [first, second] = [client.publish('t', 'x', { qos: 1 }), client.publish('t', 'x', { qos: 2 })];
  assert.deepEqual(socket().take(), ['32070001740002' + '0078']);
  socket().bring('40 03 00 02 10');
  assert.equal(await first, 0x10);
  assert.deepEqual(socket().take(), ['34070001740003' + '0078']);
  socket().bring('50 02 00 03');
  assert.deepEqual(socket().take(), ['62020003']);
  socket().bring('70 02 00 03');
  assert.equal(await second, 0);
});

timed('a refused QoS 2 message is done', async () => {
  const { client, accept, socket } = start();
  accept();
  const refused = client.publish('t', 'x', { qos: 2 });
  socket().bring('50 03 00 02 87');
  assert.equal(await refused, 0x87);
  socket().take();
  socket().bring('50 02 00 02');
  assert.deepEqual(socket().take(), ['6203000292'], 'nobody knows the id any more');
});

timed('says of a message under way at a loss that nobody knows', async () => {
  const { client, accept, socket } = start();
  await assert.rejects(client.publish('t', 'x', { qos: 1 }), /not connected/);
  accept();
  const lost = client.publish('t', 'x', { qos: 1 });
  socket().onclose();
  await assert.rejects(lost, /not known/);
});

timed('a request is answered by its Correlation Data', async () => {
  const { client, accept, socket } = start();
  accept();
  const [one, other] = [client.request('ask', '1'), client.request('ask', '2')];
  const asked = socket().take().map((frame) => /0900 ?08(.{16})/.exec(frame)[1]);
  socket().bring('40 02 00 02 40 02 00 03');
  const answer = (data, letter) => {
    const body = `000a${hex(new TextEncoder().encode('response/p'))}0b090008${data}${letter}`;
    socket().bring(`30${(body.length / 2).toString(16).padStart(2, '0')}${body}`);
  };
  answer('00'.repeat(8), '78');
  answer(asked[1], '32');
  answer(asked[0], '31');
  assert.deepEqual([hex((await one).payload), hex((await other).payload)], ['31', '32']);
});

timed('a request that nobody hears or answers fails', async () => {
  const { client, accept, socket } = start();
  accept();
  const unheard = client.request('ask', '');
  socket().bring('40 03 00 02 10');
  await assert.rejects(unheard, /nobody/);
  const unanswered = client.request('ask', '');
  socket().bring('40 02 00 03');
  await settle();
  mock.timers.tick(5_000);
  await assert.rejects(unanswered, /in time/);
});

for (const [name, wire, reason] of [
  ['a malformed packet', '30 00', '81'], ['a packet of a client', 'c0 00', '82'], ['a second CONNACK', '20 03 00 00 00', '82'],
  ['PUBACK for nothing', '40 02 00 09', '82'], ['PUBCOMP for nothing', '70 02 00 09', '82'], ['UNSUBACK', 'b0 04 00 01 00 00', '82'],
]) {
  timed(`closes after ${name} and comes back`, () => {
    const { accept, socket, sockets, states } = start();
    accept();
    socket().bring(wire);
    assert.deepEqual(socket().take(), [`e001${reason}`]);
    assert.equal(socket().readyState, 3);
    assert.equal(states.at(-1).name, 'waiting');
    mock.timers.tick(1_000);
    assert.equal(sockets.length, 2);
  });
}

timed('more QoS 2 messages than the Receive Maximum are refused', () => {
  const { accept, socket } = start();
  accept();
  for (let id = 1; id <= 64; id += 1) socket().bring(`34 06 00 01 63 00 ${id.toString(16).padStart(2, '0')} 00`);
  assert.equal(socket().take().length, 64);
  socket().bring('34 06 00 01 63 00 41 00');
  assert.deepEqual(socket().take(), ['e00193']);
});

timed('something before CONNACK, a text frame and a refusal end the attempt without a word', () => {
  for (const bring of [
    (socket) => socket.bring('d0 00'), (socket) => socket.onmessage({ data: 'text' }), (socket) => socket.bring('20 03 00 87 00'),
  ]) {
    const { socket, states } = start();
    socket().onopen();
    socket().take();
    bring(socket());
    assert.deepEqual([socket().take(), socket().readyState, states.at(-1).name], [[], 3, 'waiting']);
  }
});

timed('waits longer after each failure, up to its limit, and anew after success', () => {
  const { accept, socket, sockets, states } = start();
  const waits = [];
  for (let attempt = 0; attempt < 9; attempt += 1) {
    socket().onclose();
    waits.push(states.at(-1).retryIn);
    mock.timers.tick(states.at(-1).retryIn);
  }
  assert.deepEqual(waits, [187.5, 375, 750, 1500, 3000, 6000, 11250, 11250, 11250]);
  assert.equal(sockets.length, 10);
  accept();
  socket().onclose();
  assert.equal(states.at(-1).retryIn, 187.5);
});

timed('a broker that is silent is left', () => {
  const { accept, socket, states } = start();
  accept();
  mock.timers.tick(20_000);
  assert.deepEqual(socket().take(), ['c000']);
  socket().bring('d0 00');
  mock.timers.tick(20_000);
  assert.equal(states.at(-1).name, 'connected');
  mock.timers.tick(10_000);
  assert.match(states.at(-1).text, /silent/);
});

timed('a broker that never answers is left', () => {
  const { socket, states } = start();
  socket().onopen();
  mock.timers.tick(10_000);
  assert.equal(states.at(-1).name, 'waiting');
});

timed('closed is closed', () => {
  const { client, accept, socket, sockets } = start();
  accept();
  client.close();
  assert.deepEqual(socket().take(), ['e000']);
  mock.timers.tick(60_000);
  client.start();
  assert.equal(sockets.length, 1);
});
