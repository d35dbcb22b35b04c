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
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 10000
"""


class Broker:
    def __init__(self, process, description, port):
        self._process, self.description, self.host, self.port = process, description, HOST, port
        # mosquitto 2.0.11 closes an older connection of the same client id without the DISCONNECT that 5.0 describes.
        self.says_taken_over = description != "mosquitto"

    def is_running(self):
        return self._process.is_running()


@contextlib.contextmanager
def start(kind, program):
    with contextlib.ExitStack() as stack:
        process, description, port = mosquitto(stack) if kind == "mosquitto" else ours(program)
        stack.callback(end, process)
        yield Broker(process, description, port)


def ours(program):
    process = Process([program, "--listen", f"{HOST}:0"])
    line = process.line_where(lambda text: re.search(rf"{re.escape(HOST)}:[1-9]\d*", text))
    return process, str(program), int(re.search(rf"{re.escape(HOST)}:(\d+)", line).group(1))


def mosquitto(stack):
    port = free_port()
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    config = Path(directory) / "mosquitto.conf"
    config.write_text(MOSQUITTO_CONFIG.format(port=port))
    process = Process([MOSQUITTO, "-c", config])
    deadline = time.monotonic() + PATIENCE
    while not accepts(port):
        if time.monotonic() > deadline or not process.is_running():
            process.kill()
            raise Failure("mosquitto does not listen")
        time.sleep(0.05)
    return process, "mosquitto", port


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
