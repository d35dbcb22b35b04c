// An MQTT 5.0 client over WebSocket, no larger than a page needs: it has no session, so after each loss of the connection
// it subscribes anew and retained messages tell it what it missed.

import * as packets from './packets.js';

const { TYPE, REASON } = packets;
/** Bytes of the largest packet that is taken: a camera's picture has some 100 KiB. */
export const MAX_PACKET = 1 << 20;
/** QoS 1 and 2 messages that the broker may have under way to us. */
const RECEIVE_MAXIMUM = 64;
/** QoS 1 and 2 messages that we have under way to the broker. */
const MAX_IN_FLIGHT = 64;
/** Messages that wait for the broker's window. */
const MAX_WAITING = 256;
/** A hidden page runs its timers once a minute: the broker has to be patient. In seconds. */
const KEEP_ALIVE = 120;
// In milliseconds:
const PING_EVERY = 20_000, PING_TIMEOUT = 10_000, CONNECT_TIMEOUT = 10_000, REQUEST_TIMEOUT = 5_000;
const BACKOFF = { least: 250, most: 15_000 };

const encoder = new TextEncoder();

/**
 * Connects at once and whenever the connection is lost, until it is closed.
 *
 * `onstate({ name, text, retryIn })` hears of `connecting`, `connected` and `waiting`; `onmessage(message)` of every
 * message with `topic`, `payload` (bytes), `qos`, `retain` and `properties`.
 */
export class Client {
  onstate = () => {};
  onmessage = () => {};
  #url;
  #id;
  #open;
  #random;
  #filters = [];
  #socket = null;
  #splitter = null;
  #attempt = 0;
  #isConnected = false;
  #isClosed = false;
  #timers = {};
  #nextId = 0;
  /** By packet id: what waits for an acknowledgement. */
  #sent = new Map();
  #waiting = [];
  #quota = 0;
  #server = {};
  /** Ids of QoS 2 messages that are not released yet. */
  #received = new Set();
  /** By Correlation Data in hexadecimal: who asked. */
  #requests = new Map();

  constructor(url, { clientId, filters = [], open = (at) => new WebSocket(at, 'mqtt'), random = Math.random }) {
    this.#url = url;
    this.#id = clientId;
    this.#open = open;
    this.#random = random;
    this.#filters = [[this.responseTopic, 1], ...filters];
  }

  get responseTopic() {
    return `response/${this.#id}`;
  }

  get isConnected() {
    return this.#isConnected;
  }

  /** Begins. */
  start() {
    if (this.#isClosed || this.#socket) return;
    clearTimeout(this.#timers.retry);
    this.onstate({ name: 'connecting', text: `connecting to ${this.#url}` });
    let socket;
    try {
      socket = this.#open(this.#url);
    } catch (error) {
      this.#retry(String(error?.message ?? error));
      return;
    }
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    const mine = (handle) => (event) => {
      if (this.#socket === socket) handle(event);
    };
    socket.onopen = mine(() => {
      this.#splitter = new packets.Splitter(MAX_PACKET);
      this.#send(packets.connect({
        clientId: this.#id, keepAlive: KEEP_ALIVE, receiveMaximum: RECEIVE_MAXIMUM, maximumPacketSize: MAX_PACKET,
      }));
    });
    socket.onmessage = mine((event) => this.#take(event.data));
    socket.onclose = mine(() => this.#lost('the connection is gone'));
    this.#timers.connect = setTimeout(() => this.#lost('no answer'), CONNECT_TIMEOUT);
  }

  /** Ends for good. */
  close() {
    this.#isClosed = true;
    if (this.#isConnected) this.#send(packets.disconnect(0));
    this.#lost('closed');
  }

  /** Resolves with the Reason Code when the broker has taken the message, rejects when it has not or nobody knows. */
  publish(topic, payload, { qos = 0, retain = false, responseTopic, correlationData } = {}) {
    const bytes = typeof payload === 'string' ? encoder.encode(payload) : payload;
    const message = { topic, payload: bytes, qos, retain, responseTopic, correlationData };
    if (!this.#isConnected) return Promise.reject(new Error('not connected'));
    if (qos > (this.#server.maximumQos ?? 2)) return Promise.reject(new Error(`the broker does not take QoS ${qos}`));
    if (qos === 0) {
      this.#send(packets.publishFrame(message, 0));
      return Promise.resolve(0);
    }
    if (this.#waiting.length >= MAX_WAITING) return Promise.reject(new Error('too many messages wait'));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ message, resolve, reject });
      this.#fill();
    });
  }

  /** Asks and resolves with the answering message. */
  request(topic, payload, timeout = REQUEST_TIMEOUT) {
    const correlationData = crypto.getRandomValues(new Uint8Array(8));
    const key = hexadecimal(correlationData);
    return new Promise((resolve, reject) => {
      const fail = (error) => {
        clearTimeout(this.#requests.get(key)?.timer);
        this.#requests.delete(key);
        reject(error);
      };
      const timer = setTimeout(() => fail(new Error('no answer in time')), timeout);
      this.#requests.set(key, { resolve, fail, timer });
      this.publish(topic, payload, { qos: 1, responseTopic: this.responseTopic, correlationData }).then((reason) => {
        if (reason >= 0x80) fail(new Error(`refused with 0x${reason.toString(16)}`));
        else if (reason === 0x10) fail(new Error('nobody is there to answer'));
      }, fail);
    });
  }

  #send(bytes) {
    // Closing or closed: `onclose` comes and tells everybody.
    if (this.#socket?.readyState === 1) this.#socket.send(bytes);
  }

  #take(data) {
    if (!(data instanceof ArrayBuffer)) return this.#giveUp({ reason: REASON.PROTOCOL, text: 'a text frame' });
    const { frames, error } = this.#splitter.push(new Uint8Array(data));
    for (const frame of frames) {
      if (!this.#socket) return undefined;
      const decoded = packets.decode(frame);
      const wrong = decoded.error ?? this.#handle(decoded.packet);
      if (wrong) return this.#giveUp(wrong);
    }
    return error && this.#socket ? this.#giveUp(error) : undefined;
  }

  /** Says why, then starts anew. */
  #giveUp({ reason, text }) {
    if (this.#isConnected) this.#send(packets.disconnect(reason));
    this.#lost(`the broker broke a rule: ${text}`);
  }

  /** One good packet; answers what is wrong with it here and now, if anything is. */
  #handle(packet) {
    if (!this.#isConnected) {
      if (packet.type === TYPE.CONNACK) return this.#accepted(packet);
      return { reason: REASON.PROTOCOL, text: 'something before CONNACK' };
    }
    switch (packet.type) {
      case TYPE.PUBLISH: return this.#arrived(packet);
      case TYPE.PUBREL: {
        const isKnown = this.#received.delete(packet.id);
        this.#send(packets.acknowledge(TYPE.PUBCOMP, packet.id, isKnown ? 0 : REASON.NO_ID));
        return null;
      }
      case TYPE.PUBACK: return this.#done(packet, 'puback', packet.reason);
      case TYPE.PUBREC: return this.#halfDone(packet);
      case TYPE.PUBCOMP: return this.#done(packet, 'pubcomp', packet.reason);
      case TYPE.SUBACK: return this.#done(packet, 'suback', Math.max(...packet.reasons));
      case TYPE.PINGRESP:
        clearTimeout(this.#timers.pong);
        return null;
      case TYPE.DISCONNECT:
        this.#lost(packet.properties.reasonString ?? `the broker closed with 0x${packet.reason.toString(16)}`);
        return null;
      default: return { reason: REASON.PROTOCOL, text: 'an answer to nothing that was asked' };
    }
  }

  #accepted({ reason, properties }) {
    clearTimeout(this.#timers.connect);
    if (reason) {
      this.#lost(properties.reasonString ?? `the broker refused with 0x${reason.toString(16)}`);
      return null;
    }
    this.#isConnected = true;
    this.#attempt = 0;
    this.#server = properties;
    this.#quota = Math.min(properties.receiveMaximum ?? MAX_IN_FLIGHT, MAX_IN_FLIGHT);
    const keepAlive = (properties.serverKeepAlive ?? KEEP_ALIVE) * 1000;
    const every = keepAlive ? Math.min(PING_EVERY, keepAlive / 2) : PING_EVERY;
    this.#timers.ping = setInterval(() => this.#ping(), every);
    const id = this.#freeId();
    const told = (codes) => codes >= 0x80 && this.#lost('the broker refused the subscriptions');
    this.#sent.set(id, { wants: 'suback', resolve: told, reject: () => {} });
    this.#send(packets.subscribe(id, this.#filters));
    this.onstate({ name: 'connected', text: `connected to ${this.#url} as ${this.#id}` });
    return null;
  }

  #ping() {
    this.#send(packets.pingreq());
    clearTimeout(this.#timers.pong);
    this.#timers.pong = setTimeout(() => this.#lost('the broker is silent'), PING_TIMEOUT);
  }

  #arrived(packet) {
    if (packet.qos === 2) {
      const isNew = !this.#received.has(packet.id);
      if (isNew && this.#received.size >= RECEIVE_MAXIMUM) {
        return { reason: REASON.RECEIVE_MAXIMUM, text: 'more messages under way than the Receive Maximum' };
      }
      this.#received.add(packet.id);
      this.#send(packets.acknowledge(TYPE.PUBREC, packet.id));
      if (!isNew) return null;
    } else if (packet.qos === 1) {
      this.#send(packets.acknowledge(TYPE.PUBACK, packet.id));
    }
    if (packet.topic === this.responseTopic) this.#answered(packet);
    else this.#tell(packet);
    return null;
  }

  /** A mistake of the page must not end the connection. */
  #tell(message) {
    try {
      this.onmessage(message);
    } catch (error) {
      console.error('a message could not be shown', message.topic, error);
    }
  }

  #answered(packet) {
    const request = this.#requests.get(hexadecimal(packet.properties.correlationData ?? []));
    if (!request) return;
    clearTimeout(request.timer);
    this.#requests.delete(hexadecimal(packet.properties.correlationData));
    request.resolve(packet);
  }

  #done(packet, wants, reason) {
    const sent = this.#sent.get(packet.id);
    if (sent?.wants !== wants) return { reason: REASON.PROTOCOL, text: `${wants.toUpperCase()} that nothing waits for` };
    this.#sent.delete(packet.id);
    if (wants !== 'suback') {
      this.#quota += 1;
      this.#fill();
    }
    sent.resolve(reason);
    return null;
  }

  #halfDone(packet) {
    const sent = this.#sent.get(packet.id);
    if (sent?.wants === 'pubrec' && packet.reason >= 0x80) return this.#done(packet, 'pubrec', packet.reason);
    const isKnown = sent?.wants === 'pubrec' || sent?.wants === 'pubcomp';
    if (isKnown) sent.wants = 'pubcomp';
    this.#send(packets.acknowledge(TYPE.PUBREL, packet.id, isKnown ? 0 : REASON.NO_ID));
    return null;
  }

  /** Sends what waits, as far as the broker's Receive Maximum goes. */
  #fill() {
    while (this.#quota > 0 && this.#waiting.length) {
      const { message, resolve, reject } = this.#waiting.shift();
      const id = this.#freeId();
      this.#quota -= 1;
      this.#sent.set(id, { wants: message.qos === 1 ? 'puback' : 'pubrec', resolve, reject });
      this.#send(packets.publishFrame(message, id));
    }
  }

  /** There is always one: far fewer are under way. */
  #freeId() {
    do this.#nextId = (this.#nextId % 65_535) + 1;
    while (this.#sent.has(this.#nextId));
    return this.#nextId;
  }

  #lost(text) {
    const socket = this.#socket;
    this.#socket = null;
    this.#isConnected = false;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    socket?.close();
    const open = [...this.#sent.values(), ...this.#waiting.splice(0)];
    this.#sent.clear();
    this.#received.clear();
    for (const { reject } of open) reject(new Error(`${text}; whether the broker took it is not known`));
    for (const { fail } of [...this.#requests.values()]) fail(new Error(text));
    if (!this.#isClosed) this.#retry(text);
  }

  /** Waits longer each time, and never all pages at once. */
  #retry(text) {
    const limit = Math.min(BACKOFF.most, BACKOFF.least * 2 ** this.#attempt);
    this.#attempt = Math.min(this.#attempt + 1, 16);
    const retryIn = limit / 2 + (this.#random() * limit) / 2;
    this.onstate({ name: 'waiting', text, retryIn });
    this.#timers.retry = setTimeout(() => this.start(), retryIn);
  }
}

function hexadecimal(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
