"""The foreign clients behind one face: `open` a connection, let it subscribe, publish, and read what it reports."""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional

from .brokers import LISTENERS
from .certificates import Tls
from .processes import PATIENCE, Failure, Process, Refused

HERE = Path(__file__).resolve().parent


class Message(NamedTuple):
    """A message as a client reports it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass
class Options:
    """How a connection is opened."""

    client_id: str
    clean: bool = True
    expiry: int = 0
    will: Optional[Message] = None
    subscriptions: list = field(default_factory=list)
    unsubscribe: list = field(default_factory=list)
    # 5.0: options of all subscriptions, such as {"no_local": True}.
    flags: dict = field(default_factory=dict)
    # What is shown and trusted in place of what the broker wants.
    tls: Optional[Tls] = None


def default_target():
    return Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")) / "debug"


def programs(target):
    from .mosquitto import Mosquitto

    paho = [sys.executable, HERE / "paho_client.py"]
    mqttjs = ["node", HERE.parent / "mqttjs" / "client.js"]
    return [
        Mosquitto(),
        Lines("paho", ["3.1", "3.1.1", "5.0"], paho),
        *(Lines("paho", ["3.1.1", "5.0"], paho, listener) for listener in LISTENERS if listener != "mqtt"),
        *(Lines("mqttjs", ["3.1.1", "5.0"], mqttjs, listener) for listener in LISTENERS if listener != "mqtt"),
        Lines("rumqttc", ["3.1.1", "5.0"], [target / "rumqttc-client"]),
    ]


class Lines:
    """A client library behind a small program of ours that takes requests and gives reports as lines of JSON."""

    def __init__(self, name, versions, command, listener="mqtt"):
        self.name, self.versions, self.listener, self._command = name, versions, listener, command
        self.title = name if listener == "mqtt" else f"{name} over {listener}"

    def open(self, broker, version, options):
        return Connection(self._command, broker, version, options, self.listener)

    def publish(self, broker, version, client_id, messages, will=None, properties=None):
        """Connects, publishes in order, waits for every acknowledgement and says goodbye."""
        connection = self.open(broker, version, Options(client_id, will=will))
        try:
            for message in messages:
                connection.publish(message, properties)
            connection.close()
        finally:
            connection.kill()


class Connection:
    """One connection of a `Lines` client."""

    def __init__(self, command, broker, version, options, listener):
        self._process = Process(command, stdin=True)
        self._messages, self._properties = [], []
        tls = options.tls or broker.tls(listener)
        self._ask(
            "connect",
            host=broker.host,
            port=broker.ports[listener],
            scheme=LISTENERS[listener][0],
            tls=tls and {name: value and str(value) for name, value in tls._asdict().items()},
            version=version,
            client_id=options.client_id,
            clean=options.clean,
            expiry=options.expiry,
            will=options.will and as_json(options.will),
        )
        self.session_present = self._answer("connected")["session_present"]
        for topic_filter in options.unsubscribe:
            self._ask("unsubscribe", filter=topic_filter)
            self._answer("unsubscribed")
        for topic_filter, qos in options.subscriptions:
            self._ask("subscribe", filter=topic_filter, qos=qos, flags=options.flags)
            code = self._answer("subscribed")["code"]
            if code != qos:
                raise Failure(f"{topic_filter} was granted {code} and not {qos}")

    def publish(self, message, properties=None):
        self._ask("publish", **as_json(message), properties=properties or {})
        self._answer("published")

    def receive(self, count):
        """The next `count` messages."""
        while len(self._messages) < count:
            self._answer("message")
        taken, self._messages = self._messages[:count], self._messages[count:]
        return taken

    def properties(self):
        """The properties of all messages received so far, in order."""
        return self._properties

    def wait_until_closed(self):
        """Waits for the broker to end the connection and returns the reason it gave, if any."""
        return self._answer("closed").get("reason")

    def close(self):
        self._ask("disconnect")
        self._process.wait()

    def kill(self):
        self._process.kill()

    def _ask(self, request, **arguments):
        self._process.write_line(json.dumps({"request": request, **arguments}))

    def _answer(self, wanted):
        deadline = time.monotonic() + PATIENCE
        while (line := self._process.line(deadline)) is not None:
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if report["report"] == "message":
                self._messages.append(from_json(report))
                self._properties.append(report.get("properties", {}))
            if report["report"] == wanted:
                return report
            if report["report"] == "closed" and wanted == "connected":
                raise Refused(f"refused: {report['reason']}")
            if report["report"] == "closed":
                break
        raise Failure(f"the connection ended before '{wanted}'\n{self._process.tail()}")


def as_json(message):
    return {
        "topic": message.topic,
        "payload": message.payload.hex(),
        "qos": message.qos,
        "retain": bool(message.retain),
    }


def from_json(report):
    return Message(report["topic"], bytes.fromhex(report["payload"]), report["qos"], report["retain"])
