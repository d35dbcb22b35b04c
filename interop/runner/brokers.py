"""Starts a broker on free ports of the loopback address and ends it."""

import contextlib
import getpass
import re
import signal
import socket
import tempfile
import time
from pathlib import Path

from .certificates import Certificates
from .processes import PATIENCE, Failure, Process

HOST = "127.0.0.1"

# Not in the path of every user.
MOSQUITTO = "/usr/sbin/mosquitto"

# By the name that clients ask for: the scheme, and whether a client has to show a certificate.
LISTENERS = {
    "mqtt": ("mqtt", False),
    "ws": ("ws", False),
    "mqtts": ("mqtts", False),
    "wss": ("wss", False),
    "mqtts with a certificate": ("mqtts", True),
    "wss with a certificate": ("wss", True),
}

MOSQUITTO_CONFIG = """\
allow_anonymous true
persistence false
max_queued_messages 10000
"""


class Broker:
    def __init__(self, kind, program, certificates, server="server"):
        """`server` is the name of the certificate that it shows."""
        self.kind, self._program, self.certificates, self.host = kind, program, certificates, HOST
        files = certificates.certificate(server), certificates.key(server), certificates.certificate("ca")
        begin = mosquitto if kind == "mosquitto" else ours
        self._process, self.ports = begin(program, certificates.directory, files)
        self.port = self.ports["mqtt"]
        self.description = "mosquitto" if kind == "mosquitto" else str(program)
        # mosquitto 2.0.11 closes an older connection of the same client id without the DISCONNECT that 5.0 describes.
        self.says_taken_over = kind == "ours"
        # What it says of connections it refused is its own; of another broker it is not asked.
        self.says_why = kind == "ours"

    def is_running(self):
        return self._process.is_running()

    def tls(self, listener):
        """What a client needs to be let in there; None where nothing is encrypted."""
        scheme, has_certificate = LISTENERS[listener]
        if scheme in ("mqtt", "ws"):
            return None
        return self.certificates.tls("client" if has_certificate else None)

    @contextlib.contextmanager
    def another(self, server):
        """One more of its kind, with the same certificates, that shows the one named."""
        broker = Broker(self.kind, self._program, self.certificates, server)
        try:
            yield broker
        finally:
            broker.end()

    def refusals(self):
        """What it says of connections it refused until its end, once it has said something."""
        is_refusal = re.compile("WARN refused: ").search
        first = self._process.line_where(is_refusal)
        self.end()
        rest = []
        while (line := self._process.line(time.monotonic() + PATIENCE)) is not None:
            rest.append(line)
        return [first, *filter(is_refusal, rest)]

    def end(self):
        self._process.signal(signal.SIGTERM)
        try:
            self._process.wait()
        except Failure:
            self._process.kill()
            raise


@contextlib.contextmanager
def start(kind, program):
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(kind, program, Certificates(directory))
        try:
            yield broker
        finally:
            broker.end()


def ours(program, directory, files):
    config = directory / "broker.toml"
    certificate, key, ca = files
    text = ""
    for scheme, has_certificate in LISTENERS.values():
        text += f'[[listen]]\naddress = "{scheme}://{HOST}:0"\n'
        if scheme in ("mqtts", "wss"):
            text += f'certificate = "{certificate}"\nkey = "{key}"\n'
        if has_certificate:
            text += f'client_ca = "{ca}"\n'
    config.write_text(text)
    process = Process([program, "--config", config])
    ports = {}
    for name, (scheme, _) in LISTENERS.items():
        address = re.compile(rf"listening on {scheme}://{re.escape(HOST)}:([1-9]\d*)")
        ports[name] = int(address.search(process.line_where(address.search)).group(1))
    return process, ports


def mosquitto(_program, directory, files):
    config = directory / "mosquitto.conf"
    certificate, key, ca = files
    ports = {name: free_port() for name in LISTENERS}
    # Who started it can read the keys, and the user it would change to cannot.
    text = f"user {getpass.getuser()}\n{MOSQUITTO_CONFIG}"
    for name, (scheme, has_certificate) in LISTENERS.items():
        text += f"listener {ports[name]} {HOST}\n"
        if scheme in ("ws", "wss"):
            text += "protocol websockets\n"
        if scheme in ("mqtts", "wss"):
            text += f"certfile {certificate}\nkeyfile {key}\n"
        if has_certificate:
            text += f"cafile {ca}\nrequire_certificate true\n"
    config.write_text(text)
    process = Process([MOSQUITTO, "-c", config])
    deadline = time.monotonic() + PATIENCE
    while not all(accepts(port) for port in ports.values()):
        if time.monotonic() > deadline or not process.is_running():
            process.kill()
            raise Failure("mosquitto does not listen")
        time.sleep(0.05)
    return process, ports


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
