"""Debian's mosquitto_pub, mosquitto_sub and mosquitto_rr behind the face of `clients`."""

import signal
import subprocess
import tempfile
from pathlib import Path

from .clients import Message
from .processes import PATIENCE, Failure, Process

VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5.0": "mqttv5"}

# QoS, RETAIN, payload and topic; the 5.0 properties in front, which hold no blank.
MESSAGE = "message content_type=%C|response_topic=%R|correlation_data=%D|expiry=%E|user=%P %q %r %x %t"


class Mosquitto:
    name = title = "mosquitto"
    listener = "mqtt"
    versions = list(VERSIONS)

    def open(self, broker, version, options):
        return Subscriber(broker, version, options)

    def publish(self, broker, version, client_id, messages, will=None, properties=None):
        """One connection where all messages can be read as lines of one topic; else one for each."""
        first = messages[0]
        alike = all(m._replace(payload=b"") == first._replace(payload=b"") for m in messages)
        command = base("mosquitto_pub", broker, version, client_id) + with_will(will)
        for name, value in (properties or {}).items():
            values = [part for pair in value for part in pair] if name == "user" else [value]
            step = 2 if name == "user" else 1
            for at in range(0, len(values), step):
                command += ["-D", "publish", PROPERTIES[name], *map(str, values[at : at + step])]
        if alike and len(messages) > 1 and not any(b"\n" in m.payload or not m.payload for m in messages):
            publish(command + ["-l"], first, b"".join(m.payload + b"\n" for m in messages))
            return
        for message in messages:
            if message.payload:
                with tempfile.TemporaryDirectory() as directory:
                    path = Path(directory) / "payload"
                    path.write_bytes(message.payload)
                    publish(command + ["-f", str(path)], message)
            else:
                publish(command + ["-n"], message)

    def request(self, broker, version, client_id, topic, response_topic, payload):
        """mosquitto_rr: a process that publishes a request and prints the response."""
        command = base("mosquitto_rr", broker, version, client_id)
        return Process(command + ["-t", topic, "-e", response_topic, "-m", payload, "-q", "1", "-F", "response %x"])


PROPERTIES = {
    "content_type": "content-type",
    "response_topic": "response-topic",
    "correlation_data": "correlation-data",
    "expiry": "message-expiry-interval",
    "user": "user-property",
}


class Subscriber:
    """A running mosquitto_sub."""

    session_present = None  # mosquitto_sub does not tell

    def __init__(self, broker, version, options):
        command = base("mosquitto_sub", broker, version, options.client_id) + ["-d", "-F", MESSAGE]
        command += with_will(options.will)
        if not options.clean:
            command += ["-c"] + (["-x", str(options.expiry)] if version == "5.0" else [])
        if options.flags.get("retain_as_published"):
            command += ["--retain-as-published"]
        for topic_filter in options.unsubscribe:
            command += ["-U", topic_filter]
        for topic_filter, qos in options.subscriptions or [(f"nothing/{options.client_id}", 0)]:
            command += ["-t", topic_filter, "-q", str(qos)]
        self._process = Process(["stdbuf", "-oL", *command])
        self._early = []
        self._properties = []
        self._process.line_where(self._subscribed)

    def _subscribed(self, line):
        if line.startswith("message "):
            self._early.append(line)
        return line.startswith("Subscribed (mid")

    def receive(self, count):
        """The next `count` messages."""
        messages = []
        while len(messages) < count:
            line = self._early.pop(0) if self._early else self._process.line_where(lambda l: l.startswith("message "))
            _, rest = line.split(" ", 1)
            # User properties are written with blanks, so the fixed fields are counted from the end.
            properties, qos, retain, payload, topic = rest.rsplit(" ", 4)
            messages.append(Message(topic, bytes.fromhex(payload), int(qos), retain == "1"))
            self._properties.append(parse_properties(properties))
        return messages

    def properties(self):
        """The properties of all messages received so far, in order."""
        return self._properties

    def close(self):
        self._process.signal(signal.SIGINT)
        self._process.wait()

    def kill(self):
        self._process.kill()


def parse_properties(text):
    found = {key: value for key, _, value in (part.partition("=") for part in text.split("|")) if value}
    if "expiry" in found:
        found["expiry"] = int(found["expiry"])
    if "user" in found:
        found["user"] = [pair.split(":", 1) for pair in found["user"].split(" ")]
    return found


def base(program, broker, version, client_id):
    return [program, "-h", broker.host, "-p", str(broker.port), "-V", VERSIONS[version], "-i", client_id]


def with_will(will):
    if will is None:
        return []
    arguments = ["--will-topic", will.topic, "--will-payload", will.payload.decode(), "--will-qos", str(will.qos)]
    return arguments + (["--will-retain"] if will.retain else [])


def publish(command, message, lines=None):
    command = command + ["-t", message.topic, "-q", str(message.qos)] + (["-r"] if message.retain else [])
    done = subprocess.run(command, input=lines or b"", capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(command[:1])} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
