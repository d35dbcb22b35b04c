// MQTT.js behind lines of JSON: requests on standard input, reports on standard output.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const PROTOCOLS = { "3.1.1": 4, "5.0": 5 };

// By the runner's names.
const NAMES = {
  content_type: "contentType",
  response_topic: "responseTopic",
  correlation_data: "correlationData",
  expiry: "messageExpiryInterval",
  user: "userProperties",
  subscription_ids: "subscriptionIdentifier",
};

let client;
let reason = "the connection was closed";

function report(kind, values = {}) {
  process.stdout.write(JSON.stringify({ report: kind, ...values }) + "\n");
}

function connect(request) {
  const { host, port, scheme, version, client_id: clientId, clean, will, tls } = request;
  const options = { host, port, protocol: scheme, protocolVersion: PROTOCOLS[version], clientId, clean };
  Object.assign(options, { keepalive: 30, reconnectPeriod: 0 });
  if (scheme.startsWith("ws")) options.path = "/mqtt";
  if (version === "5.0") options.properties = { sessionExpiryInterval: request.expiry };
  if (will) options.will = { ...will, payload: Buffer.from(will.payload, "hex") };
  if (tls) {
    options.ca = readFileSync(tls.ca);
    if (tls.certificate) Object.assign(options, { cert: readFileSync(tls.certificate), key: readFileSync(tls.key) });
  }
  client = mqtt.connect(options);
  client.on("connect", (connack) => report("connected", { session_present: connack.sessionPresent }));
  client.on("message", (topic, payload, { qos, retain, properties }) => {
    report("message", { topic, payload: payload.toString("hex"), qos, retain, properties: reported(properties) });
  });
  client.on("disconnect", (packet) => (reason = packet.reasonCode));
  client.on("error", (error) => (reason = error.message || error.code));
  client.on("close", () => end({ reason }));
}

// Not before the report is written: standard output is a pipe, and what it holds goes with the process.
function end(values) {
  process.stdout.write(JSON.stringify({ report: "closed", ...values }) + "\n", () => process.exit(0));
}

function subscribe({ filter, qos, flags }) {
  const options = { qos };
  if (flags.no_local) options.nl = true;
  if (flags.retain_as_published) options.rap = true;
  if (flags.retain_handling) options.rh = flags.retain_handling;
  if (flags.subscription_id) options.properties = { subscriptionIdentifier: flags.subscription_id };
  client.subscribe(filter, options, (error, granted) => {
    report("subscribed", { code: error ? error.message : granted[0].qos });
  });
}

function publish({ topic, payload, qos, retain, properties }) {
  const options = { qos, retain };
  if (Object.keys(properties).length > 0) options.properties = sent(properties);
  client.publish(topic, Buffer.from(payload, "hex"), options, (error) => {
    report(error ? "failed" : "published", { error: error?.message });
  });
}

function sent(properties) {
  const options = {};
  for (const [key, value] of Object.entries(properties)) options[NAMES[key]] = value;
  if (options.correlationData) options.correlationData = Buffer.from(options.correlationData);
  if (options.userProperties) {
    const byName = {};
    for (const [name, value] of options.userProperties) (byName[name] ??= []).push(value);
    options.userProperties = byName;
  }
  return options;
}

function reported(properties = {}) {
  const values = {};
  for (const [key, name] of Object.entries(NAMES)) {
    if (properties[name] !== undefined) values[key] = properties[name];
  }
  if (values.correlation_data) values.correlation_data = values.correlation_data.toString();
  if (values.subscription_ids) values.subscription_ids = [values.subscription_ids].flat();
  if (values.user) {
    values.user = Object.entries(values.user).flatMap(([name, all]) => [all].flat().map((value) => [name, value]));
  }
  return values;
}

const requests = {
  connect,
  subscribe,
  publish,
  unsubscribe: ({ filter }) => client.unsubscribe(filter, () => report("unsubscribed")),
  disconnect: () => client.end(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  requests[request.request](request);
}
