// The page's packets on the wire: what it writes, what it reads, and what it refuses.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as packets from '../../examples/src/bin/smart-home/page/packets.js';

const bytes = (hex) => Uint8Array.from(hex.replaceAll(' ', '').match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex = (array) => Array.from(array, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
const text = (string) => hex(new TextEncoder().encode(string));

/** The packets of a stream in pieces of `size`. */
function read(stream, size = stream.length || 1, limit = 1 << 20) {
  const splitter = new packets.Splitter(limit);
  const read = [];
  for (let at = 0; at < stream.length; at += size) {
    const { frames, error } = splitter.push(stream.subarray(at, at + size));
    read.push(...frames.map(packets.decode));
    if (error) return [...read, { error }];
  }
  return read;
}

const GOOD = [
  ['CONNACK', '20 03 00 00 00', { type: 2, sessionPresent: false, reason: 0, properties: {} }],
  ['CONNACK with properties', `20 0d 01 00 0a 21 00 05 24 01 27 00 00 01 00`,
    { type: 2, sessionPresent: true, reason: 0, properties: { receiveMaximum: 5, maximumQos: 1, maximumPacketSize: 256 } }],
  ['CONNACK that refuses', `20 08 00 87 05 1f 00 02 ${text('no')}`,
    { type: 2, sessionPresent: false, reason: 0x87, properties: { reasonString: 'no' } }],
  ['PUBLISH of QoS 0', `30 06 00 01 74 00 ${text('hi')}`,
    { type: 3, qos: 0, dup: false, retain: false, topic: 't', id: 0, properties: {}, payload: bytes('6869') }],
  ['PUBLISH of QoS 2 with DUP and RETAIN', '3d 06 00 01 74 00 07 00',
    { type: 3, qos: 2, dup: true, retain: true, topic: 't', id: 7, properties: {}, payload: bytes('') }],
  ['PUBLISH with what a request needs', `30 14 00 01 74 10 08 00 01 72 09 00 02 00 ff 0b 01 0b 80 01 01 01`,
    { type: 3, qos: 0, dup: false, retain: false, topic: 't', id: 0,
      properties: { responseTopic: 'r', correlationData: bytes('00ff'), subscriptionIds: [1, 128], payloadFormat: 1 }, payload: bytes('') }],
  ['PUBACK', '40 02 00 07', { type: 4, id: 7, reason: 0, properties: {} }],
  ['PUBACK with a Reason Code', '40 03 00 07 10', { type: 4, id: 7, reason: 16, properties: {} }],
  ['PUBREC', '50 04 00 07 97 00', { type: 5, id: 7, reason: 0x97, properties: {} }],
  ['PUBREL', '62 02 00 07', { type: 6, id: 7, reason: 0, properties: {} }],
  ['PUBCOMP', '70 03 00 07 92', { type: 7, id: 7, reason: 0x92, properties: {} }],
  ['SUBACK', '90 05 00 01 00 02 87', { type: 9, id: 1, properties: {}, reasons: [2, 0x87] }],
  ['PINGRESP', 'd0 00', { type: 13 }],
  ['DISCONNECT', 'e0 01 8e', { type: 14, reason: 0x8e, properties: {} }],
];

const BAD = [
  ['no packet type', '00 00', 0x82],
  ['CONNECT from a server', '10 00', 0x82],
  ['SUBSCRIBE from a server', '82 00', 0x81],
  ['PINGREQ from a server', 'c0 00', 0x82],
  ['AUTH nobody asked for', 'f0 00', 0x82],
  ['PINGRESP with a body', 'd0 01 00', 0x81],
  ['PUBACK with flags', '42 02 00 07', 0x81],
  ['PUBREL without flags', '60 02 00 07', 0x81],
  ['PUBACK for id 0', '40 02 00 00', 0x82],
  ['PUBACK of one byte', '40 01 00', 0x81],
  ['PUBACK with an unknown Reason Code', '40 03 00 07 01', 0x82],
  ['PUBACK that is too long', '40 05 00 07 00 00 00', 0x81],
  ['CONNACK with a flag beyond', '20 03 02 00 00', 0x81],
  ['CONNACK that refuses with a session', '20 03 01 87 00', 0x82],
  ['CONNACK with Receive Maximum 0', '20 06 00 00 03 21 00 00', 0x82],
  ['CONNACK with Maximum QoS 2', '20 05 00 00 02 24 02', 0x82],
  ['CONNACK with a property twice', '20 09 00 00 06 21 00 05 21 00 05', 0x82],
  ['CONNACK with a property of PUBLISH', '20 06 00 00 03 23 00 01', 0x82],
  ['an unknown property', '20 05 00 00 02 7f 00', 0x81],
  ['properties that end too late', '20 04 00 00 05 24', 0x81],
  ['a property that ends too early', '20 05 00 00 02 21 00', 0x81],
  ['a property length that is too long', '20 07 00 00 80 80 80 80 01', 0x81],
  ['a property length that is not minimal', '20 04 00 00 80 00', 0x81],
  ['PUBLISH of QoS 3', '36 06 00 01 74 00 07 00', 0x81],
  ['PUBLISH of QoS 0 with DUP', '38 04 00 01 74 00', 0x81],
  ['PUBLISH with id 0', '32 06 00 01 74 00 00 00', 0x82],
  ['PUBLISH with a wildcard', '30 04 00 01 23 00', 0x82],
  ['PUBLISH without a topic', '30 03 00 00 00', 0x82],
  ['PUBLISH by a Topic Alias', '30 06 00 00 03 23 00 01', 0x94],
  ['PUBLISH with a Response Topic that has a wildcard', '30 08 00 01 74 04 08 00 01 2b', 0x82],
  ['a topic that is not UTF-8', '30 05 00 02 c3 28 00', 0x81],
  ['a topic with a surrogate', '30 06 00 03 ed a0 80 00', 0x81],
  ['a topic with U+0000', '30 04 00 01 00 00', 0x81],
  ['a Subscription Identifier of 0', '30 06 00 01 74 02 0b 00', 0x82],
  ['SUBACK without an answer', '90 03 00 01 00', 0x82],
  ['SUBACK with an unknown Reason Code', '90 04 00 01 00 03', 0x82],
  ['a length of five bytes', '30 80 80 80 80 01', 0x81],
  ['a length that is not minimal', 'd0 80 00', 0x81],
];

for (const [name, wire, expected] of GOOD) {
  test(`reads ${name}`, () => assert.deepEqual(read(bytes(wire)), [{ packet: expected }]));
}

for (const [name, wire, reason] of BAD) {
  test(`refuses ${name}`, () => {
    const answers = read(bytes(wire));
    assert.equal(answers.at(-1).error?.reason, reason, JSON.stringify(answers));
    assert.ok(answers.at(-1).error.text);
  });
}

test('packets are the same however the connection cuts them', () => {
  const stream = bytes(GOOD.map(([, wire]) => wire).join(' '));
  const expected = GOOD.map(([, , packet]) => ({ packet }));
  for (let size = 1; size <= stream.length; size += 1) assert.deepEqual(read(stream, size), expected, `pieces of ${size}`);
});

test('a packet may be as long as the limit and no longer', () => {
  const stream = (length) => {
    const body = new Uint8Array(length);
    body.set(bytes('00 01 74 00'));
    return Uint8Array.from([0x30, (length & 127) | 128, length >> 7, ...body]);
  };
  assert.equal(read(stream(300), 7, 300)[0].packet.payload.length, 296);
  assert.equal(read(stream(301), 7, 300)[0].error.reason, 0x95);
});

test('every beginning of a packet is read or refused, and none throws', () => {
  for (const [name, wire] of GOOD) {
    const [first, , ...body] = bytes(wire);
    for (let length = 0; length < body.length; length += 1) {
      const { packet, error } = packets.decode({ first, body: Uint8Array.from(body.slice(0, length)) });
      assert.ok(packet ? !error : error.text, `${name} cut to ${length}`);
    }
  }
});

test('no bytes throw', () => {
  // Linear congruential, so that a failure comes again.
  let state = 7;
  const random = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let good = 0;
  for (let round = 0; round < 50_000; round += 1) {
    const frame = bytes(GOOD[random(GOOD.length)][1]);
    for (let change = random(4); change > 0; change -= 1) frame[random(frame.length)] = random(256);
    for (const answer of read(frame, 1 + random(9))) {
      assert.ok(answer.packet || (answer.error.reason >= 0x80 && answer.error.text));
      good += answer.packet ? 1 : 0;
    }
  }
  assert.ok(good > 5_000, 'and not all of them are refused');
});

test('writes what the standard says', () => {
  const cases = [
    [packets.connect({ clientId: 'p', keepAlive: 120, receiveMaximum: 64, maximumPacketSize: 65536 }),
      `10 16 00 04 ${text('MQTT')} 05 02 00 78 08 21 00 40 27 00 01 00 00 00 01 70`],
    [packets.publishFrame({ topic: 't', payload: bytes('01') }, 0), '30 05 00 01 74 00 01'],
    [packets.publishFrame({ topic: 't', payload: bytes('01'), qos: 2, retain: true }, 258, true), '3d 07 00 01 74 01 02 00 01'],
    [packets.publishFrame({ topic: 't', payload: bytes(''), qos: 1, responseTopic: 'r', correlationData: bytes('ff') }, 1),
      '32 0e 00 01 74 00 01 08 08 00 01 72 09 00 01 ff'],
    [packets.subscribe(1, [['a/#', 1], ['b', 0]]), `82 0d 00 01 00 00 03 ${text('a/#')} 01 00 01 62 00`],
    [packets.acknowledge(packets.TYPE.PUBREL, 7), '62 02 00 07'],
    [packets.acknowledge(packets.TYPE.PUBCOMP, 7, 0x92), '70 03 00 07 92'],
    [packets.pingreq(), 'c0 00'],
    [packets.disconnect(0x81), 'e0 01 81'],
  ];
  for (const [written, expected] of cases) assert.equal(hex(written), expected);
  const long = packets.publishFrame({ topic: 't', payload: new Uint8Array(200) }, 0);
  assert.equal(hex(long.subarray(0, 7)), '30 cc 01 00 01 74 00');
});
