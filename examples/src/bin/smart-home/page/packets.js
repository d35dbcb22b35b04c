// MQTT 5.0 packets as bytes: those that a client sends and those that a server may send. Bytes from outside never throw
// here: what breaks a rule comes back as `{ error: { reason, text } }` with the Reason Code to close with.

export const TYPE = {
  CONNECT: 1, CONNACK: 2, PUBLISH: 3, PUBACK: 4, PUBREC: 5, PUBREL: 6, PUBCOMP: 7, SUBSCRIBE: 8, SUBACK: 9,
  UNSUBSCRIBE: 10, UNSUBACK: 11, PINGREQ: 12, PINGRESP: 13, DISCONNECT: 14, AUTH: 15,
};
export const REASON = { MALFORMED: 0x81, PROTOCOL: 0x82, TOO_LARGE: 0x95, RECEIVE_MAXIMUM: 0x93, NO_ID: 0x92 };

const { CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, PINGRESP, DISCONNECT, AUTH } = TYPE;
const ANSWERS = [CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH];

// Identifier: name, how it is written, where a server may send it. [MQTT-2.2.2.2]
const PROPERTIES = new Map([
  [0x01, ['payloadFormat', 'flag', [PUBLISH]]],
  [0x02, ['messageExpiry', 'four', [PUBLISH]]],
  [0x03, ['contentType', 'text', [PUBLISH]]],
  [0x08, ['responseTopic', 'topic', [PUBLISH]]],
  [0x09, ['correlationData', 'bytes', [PUBLISH]]],
  [0x0b, ['subscriptionIds', 'positive variable', [PUBLISH]]],
  [0x11, ['sessionExpiry', 'four', [CONNACK]]],
  [0x12, ['assignedClientId', 'text', [CONNACK]]],
  [0x13, ['serverKeepAlive', 'two', [CONNACK]]],
  [0x15, ['authenticationMethod', 'text', [CONNACK, AUTH]]],
  [0x16, ['authenticationData', 'bytes', [CONNACK, AUTH]]],
  [0x1a, ['responseInformation', 'text', [CONNACK]]],
  [0x1c, ['serverReference', 'text', [CONNACK, DISCONNECT]]],
  [0x1f, ['reasonString', 'text', ANSWERS]],
  [0x21, ['receiveMaximum', 'positive two', [CONNACK]]],
  [0x22, ['topicAliasMaximum', 'two', [CONNACK]]],
  [0x23, ['topicAlias', 'positive two', [PUBLISH]]],
  [0x24, ['maximumQos', 'flag', [CONNACK]]],
  [0x25, ['retainAvailable', 'flag', [CONNACK]]],
  [0x26, ['userProperties', 'pair', [...ANSWERS, PUBLISH]]],
  [0x27, ['maximumPacketSize', 'positive four', [CONNACK]]],
  [0x28, ['wildcardAvailable', 'flag', [CONNACK]]],
  [0x29, ['subscriptionIdsAvailable', 'flag', [CONNACK]]],
  [0x2a, ['sharedAvailable', 'flag', [CONNACK]]],
]);
const REPEATED = new Set(['subscriptionIds', 'userProperties']);

const REASONS = new Map([
  [CONNACK, [0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b,
    0x9c, 0x9d, 0x9f]],
  [PUBACK, [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]],
  [PUBREC, [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]],
  [PUBREL, [0, 0x92]],
  [PUBCOMP, [0, 0x92]],
  [SUBACK, [0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2]],
  [UNSUBACK, [0, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91]],
  [DISCONNECT, [0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2]],
]);

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** What a packet breaks; it never leaves this module. */
class Broken extends Error {
  constructor(text, reason = REASON.MALFORMED) {
    super(text);
    this.reason = reason;
  }
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  get left() {
    return this.bytes.length - this.at;
  }

  take(length) {
    if (length > this.left) throw new Broken('it ends too early');
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  byte() {
    return this.take(1)[0];
  }

  two() {
    const [high, low] = this.take(2);
    return high * 256 + low;
  }

  four() {
    return this.two() * 65536 + this.two();
  }

  variable() {
    let value = 0;
    for (let place = 1; place <= 128 ** 3; place *= 128) {
      const byte = this.byte();
      value += (byte & 127) * place;
      if (byte < 128) {
        if (byte === 0 && place > 1) throw new Broken('a length is written longer than it has to be');
        return value;
      }
    }
    throw new Broken('a length takes more than four bytes');
  }

  text() {
    let text;
    try {
      text = utf8.decode(this.take(this.two()));
    } catch (error) {
      throw error instanceof Broken ? error : new Broken('a string is not UTF-8');
    }
    if (text.includes('\0')) throw new Broken('a string contains U+0000');
    return text;
  }

  value(kind) {
    switch (kind) {
      case 'flag': {
        const byte = this.byte();
        if (byte > 1) throw new Broken('a flag is neither 0 nor 1', REASON.PROTOCOL);
        return byte;
      }
      case 'two': return this.two();
      case 'four': return this.four();
      case 'bytes': return this.take(this.two()).slice();
      case 'text': return this.text();
      case 'topic': return checkedName(this.text());
      case 'pair': return [this.text(), this.text()];
      default: {
        const value = this[kind.split(' ')[1]]();
        if (value === 0) throw new Broken('a property is 0 and must not be', REASON.PROTOCOL);
        return value;
      }
    }
  }

  properties(type) {
    const inner = new Reader(this.take(this.variable()));
    const found = {};
    while (inner.left) {
      const [name, kind, allowed] = PROPERTIES.get(inner.variable()) ?? [];
      if (!name) throw new Broken('there is no such property');
      if (!allowed.includes(type)) throw new Broken(`${name} does not belong there`, REASON.PROTOCOL);
      const value = inner.value(kind);
      if (REPEATED.has(name)) (found[name] ??= []).push(value);
      else if (name in found) throw new Broken(`${name} is there twice`, REASON.PROTOCOL);
      else found[name] = value;
    }
    return found;
  }

  id() {
    const id = this.two();
    if (id === 0) throw new Broken('a Packet Identifier is 0', REASON.PROTOCOL);
    return id;
  }

  reason(type) {
    const code = this.byte();
    if (!REASONS.get(type).includes(code)) throw new Broken('there is no such Reason Code here', REASON.PROTOCOL);
    return code;
  }

  end() {
    if (this.left) throw new Broken('it is longer than it should be');
  }
}

function checkedName(topic) {
  if (topic === '' || /[+#]/.test(topic)) throw new Broken('a Topic Name is empty or has a wildcard', REASON.PROTOCOL);
  return topic;
}

/** Puts packets together from whatever pieces a connection brings: several at once or a part of one. */
export class Splitter {
  #limit;
  #first = -1;
  #length = 0;
  #place = 1;
  #body = null;
  #filled = 0;

  /** `limit`: bytes of the largest packet that is taken. */
  constructor(limit) {
    this.#limit = limit;
  }

  /** The packets that these bytes complete, and `error` when what follows is none. */
  push(bytes) {
    const frames = [];
    let at = 0;
    while (at < bytes.length) {
      if (this.#body === null) {
        const error = this.#head(bytes[at++]);
        if (error) return { frames, error };
      }
      if (this.#body === null) continue;
      const part = bytes.subarray(at, at + this.#body.length - this.#filled);
      this.#body.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === this.#body.length) {
        frames.push({ first: this.#first, body: this.#body });
        this.#first = -1;
        this.#body = null;
      }
    }
    return { frames };
  }

  #head(byte) {
    if (this.#first < 0) {
      [this.#first, this.#length, this.#place, this.#filled] = [byte, 0, 1, 0];
      return null;
    }
    this.#length += (byte & 127) * this.#place;
    this.#place *= 128;
    if (byte < 128) {
      if (byte === 0 && this.#place > 128) return { reason: REASON.MALFORMED, text: 'a length is longer than it has to be' };
    } else if (this.#place > 128 ** 3) {
      return { reason: REASON.MALFORMED, text: 'a length takes more than four bytes' };
    }
    if (this.#length > this.#limit) return { reason: REASON.TOO_LARGE, text: `a packet of more than ${this.#limit} bytes` };
    if (byte < 128) this.#body = new Uint8Array(this.#length);
    return null;
  }
}

/** One packet of a server: `{ packet }`, or `{ error }` when it breaks a rule. */
export function decode({ first, body }) {
  try {
    const type = first >> 4;
    const reader = new Reader(body);
    const packet = type === PUBLISH ? publish(first & 15, reader) : other(type, first & 15, reader);
    reader.end();
    return { packet };
  } catch (error) {
    if (error instanceof Broken) return { error: { reason: error.reason, text: error.message } };
    throw error;
  }
}

function publish(flags, reader) {
  const qos = (flags >> 1) & 3;
  const packet = { type: PUBLISH, qos, dup: (flags & 8) !== 0, retain: (flags & 1) !== 0 };
  if (qos === 3 || (qos === 0 && packet.dup)) throw new Broken('QoS and DUP do not go together');
  packet.topic = reader.text();
  packet.id = qos ? reader.id() : 0;
  packet.properties = reader.properties(PUBLISH);
  // No Topic Alias was offered, so there is none.
  if (packet.properties.topicAlias) throw new Broken('a Topic Alias beyond the maximum', 0x94);
  checkedName(packet.topic);
  packet.payload = reader.take(reader.left);
  return packet;
}

function other(type, flags, reader) {
  if (flags !== (type === PUBREL ? 2 : 0)) throw new Broken('its flags are not as they must be');
  switch (type) {
    case CONNACK: {
      const acknowledge = reader.byte();
      if (acknowledge > 1) throw new Broken('its flags are not as they must be');
      const packet = { type, sessionPresent: acknowledge === 1, reason: reader.reason(type) };
      if (packet.sessionPresent && packet.reason) throw new Broken('a session with a refusal', REASON.PROTOCOL);
      packet.properties = reader.properties(type);
      return packet;
    }
    case PUBACK: case PUBREC: case PUBREL: case PUBCOMP: {
      const packet = { type, id: reader.id(), reason: 0, properties: {} };
      if (reader.left) packet.reason = reader.reason(type);
      if (reader.left) packet.properties = reader.properties(type);
      return packet;
    }
    case SUBACK: case UNSUBACK: {
      const packet = { type, id: reader.id(), properties: reader.properties(type), reasons: [] };
      while (reader.left) packet.reasons.push(reader.reason(type));
      if (!packet.reasons.length) throw new Broken('it answers nothing', REASON.PROTOCOL);
      return packet;
    }
    case PINGRESP:
      return { type };
    case DISCONNECT: {
      const packet = { type, reason: 0, properties: {} };
      if (reader.left) packet.reason = reader.reason(type);
      if (reader.left) packet.properties = reader.properties(type);
      return packet;
    }
    case AUTH:
      throw new Broken('nobody asked for enhanced authentication', REASON.PROTOCOL);
    default:
      throw new Broken('no server sends such a packet', REASON.PROTOCOL);
  }
}

// Out: what we write is built from parts, each a number (one byte) or bytes.

const two = (value) => [value >> 8, value & 255];
const four = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

function variable(value) {
  const bytes = [];
  do {
    const byte = value % 128;
    value = Math.floor(value / 128);
    bytes.push(value ? byte + 128 : byte);
  } while (value);
  return bytes;
}

function binary(bytes) {
  if (bytes.length > 65535) throw new RangeError('at most 65,535 bytes fit there');
  return [...two(bytes.length), ...bytes];
}

const text = (string) => binary(encoder.encode(string));

function frame(first, head, payload = new Uint8Array()) {
  const start = [first, ...variable(head.length + payload.length), ...head];
  const bytes = new Uint8Array(start.length + payload.length);
  bytes.set(start);
  bytes.set(payload, start.length);
  return bytes;
}

const block = (properties) => [...variable(properties.length), ...properties];

/** Clean Start, no session afterwards. `receiveMaximum` and `maximumPacketSize` are what we take. */
export function connect({ clientId, keepAlive, receiveMaximum, maximumPacketSize }) {
  const properties = block([0x21, ...two(receiveMaximum), 0x27, ...four(maximumPacketSize)]);
  return frame(0x10, [...text('MQTT'), 5, 2, ...two(keepAlive), ...properties, ...text(clientId)]);
}

/** `message`: topic, payload (bytes), qos, retain, responseTopic, correlationData; `id` where there is one. */
export function publishFrame(message, id, dup = false) {
  const { topic, payload, qos = 0, retain = false, responseTopic, correlationData } = message;
  const properties = [];
  if (responseTopic !== undefined) properties.push(0x08, ...text(responseTopic));
  if (correlationData !== undefined) properties.push(0x09, ...binary(correlationData));
  const head = [...text(topic), ...(qos ? two(id) : []), ...block(properties)];
  return frame(0x30 + (dup ? 8 : 0) + qos * 2 + (retain ? 1 : 0), head, payload);
}

/** PUBACK, PUBREC, PUBREL or PUBCOMP. */
export function acknowledge(type, id, reason = 0) {
  return frame((type << 4) + (type === PUBREL ? 2 : 0), reason ? [...two(id), reason] : two(id));
}

/** `filters`: pairs of a Topic Filter and the QoS wanted. */
export function subscribe(id, filters) {
  return frame(0x82, [...two(id), 0, ...filters.flatMap(([filter, qos]) => [...text(filter), qos])]);
}

export const pingreq = () => frame(0xc0, []);
export const disconnect = (reason) => frame(0xe0, reason ? [reason] : []);
