"""Starts a broker on a free port of the loopback address and ends it."""

import contextlib
import re
import signal
import socket
import tempfile
import time
from pathlib import Path

from .processes import PATIENCE, Failure, Process

HOST = "127.0.0.1"

# Not in the path of every user.
MOSQUITTO = "/usr/sbin/mosquitto"

MOSQUITTO_CONFIG = """\
listener {tcp} 127.0.0.1
listener {websockets} 127.0.0.1
protocol websockets
allow_anonymous true
persistence false
max_queued_messages 10000
"""


class Broker:
    def __init__(self, process, description, ports):
        self._process, self.description, self.host = process, description, HOST
        # By the name that paho-mqtt has for what runs there: tcp, websockets.
        self.ports, self.port = ports, ports["tcp"]
        # mosquitto 2.0.11 closes an older connection of the same client id without the DISCONNECT that 5.0 describes.
        self.says_taken_over = description != "mosquitto"

    def is_running(self):
        return self._process.is_running()


@contextlib.contextmanager
def start(kind, program):
    with contextlib.ExitStack() as stack:
        process, description, ports = mosquitto(stack) if kind == "mosquitto" else ours(program)
        stack.callback(end, process)
        yield Broker(process, description, ports)


def ours(program):
    process = Process([program, "--listen", f"{HOST}:0", "--listen", f"ws://{HOST}:0"])
    ports = {}
    for name, scheme in (("tcp", "mqtt"), ("websockets", "ws")):
        address = re.compile(rf"{scheme}://{re.escape(HOST)}:([1-9]\d*)")
        ports[name] = int(address.search(process.line_where(address.search)).group(1))
    return process, str(program), ports


def mosquitto(stack):
    ports = {"tcp": free_port(), "websockets": free_port()}
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    config = Path(directory) / "mosquitto.conf"
    config.write_text(MOSQUITTO_CONFIG.format(**ports))
    process = Process([MOSQUITTO, "-c", config])
    deadline = time.monotonic() + PATIENCE
    while not all(accepts(port) for port in ports.values()):
        if time.monotonic() > deadline or not process.is_running():
            process.kill()
            raise Failure("mosquitto does not listen")
        time.sleep(0.05)
    return process, "mosquitto", ports


def end(process):
    process.signal(signal.SIGTERM)
    try:
        process.wait()
    except Failure:
        process.kill()
        raise


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
