#!/usr/bin/env python3
"""Lets Debian's mosquitto programs say who they are to our broker.

    python3 interop/users.py [--target DIRECTORY]

Users come from files that mosquitto_passwd wrote, of every kind it knows, and from `mqtt passwd`; rules from a file that is
an acl_file of mosquitto. Each pair of mosquitto_pub and mosquitto_sub is told what the versions say: allowed, wrong
password, not authorized.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from runner import clients
from runner.processes import PATIENCE, Failure, Process

HOST = "127.0.0.1"
VERSIONS = ("mqttv31", "mqttv311", "mqttv5")
RULES = """\
topic read public/#

user heron
topic readwrite home/#
topic deny home/safe/#

pattern write device/%c/state
"""
WRONG = "bad user name or password"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=clients.default_target(), help="directory of the built programs")
    target = parser.parse_args().target
    with tempfile.TemporaryDirectory() as directory:
        users, rules = Path(directory) / "users", Path(directory) / "rules"
        rules.write_text(RULES)
        # `-c` makes the file; what stands in it afterwards is of three kinds.
        make(["mosquitto_passwd", "-c", "-b", users, "heron", "rose bud"])
        make(["mosquitto_passwd", "-H", "sha512", "-b", users, "anna", "p:w"])
        make([target / "mqtt", "passwd", "-b", users, "dora", "tulip"])
        kinds = {line.split(":")[0]: line.split(":")[1].split("$")[1] for line in users.read_text().splitlines()}
        expect(kinds == {"heron": "7", "anna": "6", "dora": "argon2id"}, f"the kinds of lines are {kinds}")
        # Failed logins are many here and must not wait.
        command = [target / "broker", "--listen", f"{HOST}:0", "--password-file", users, "--access-file", rules]
        broker = Process([*command, "--max-failed-login-delay", "1ms"])
        try:
            address = re.compile(rf"mqtt://{re.escape(HOST)}:([1-9]\d*)")
            port = address.search(broker.line_where(address.search)).group(1)
            count = sum(run(port, version) for version in VERSIONS)
        finally:
            broker.kill()
    print(f"users and rules: {count} cases passed")
    return 0


def run(port, version) -> int:
    """Every way in and every permission of one version; how many there were."""
    right = [("heron", "rose bud"), ("anna", "p:w"), ("dora", "tulip")]
    wrong = [("heron", "p:w"), ("anna", "rose bud"), ("dora", ""), ("nobody", "tulip")]
    for name, password in right:
        status, said = publish(port, version, "lamp", name, password, "device/lamp/state")
        expect(status == 0, f"{version} {name}: {said}")
    for name, password in wrong:
        status, said = publish(port, version, "lamp", name, password, "device/lamp/state")
        expect(status != 0 and WRONG in said.lower(), f"{version} {name}, wrong password: {status} {said}")
    status, said = publish(port, version, "lamp", None, None, "device/lamp/state")
    expect(status != 0 and "not authori" in said.lower(), f"{version} without a name: {status} {said}")

    # What may be received arrives, and what may not is denied when it is asked for.
    subscriber = Process(["stdbuf", "-oL", "mosquitto_sub", *connection(port, version, "sub", "heron", "rose bud"),
                          "-d", "-q", "1", "-t", "home/hall/+", "-t", "home/safe/#", "-t", "other"])
    subscribed = subscriber.line_where(lambda line: line.startswith("Subscribed"))
    expect(subscribed.split("): ")[1] in ("1, 135, 135", "1, 128, 128"), f"{version} SUBACK: {subscribed}")
    for topic in ("other", "home/safe/lamp", "home/hall/lamp"):
        status, said = publish(port, version, "pub", "heron", "rose bud", topic)
        # Only 5.0 can be told; what mosquitto_pub makes of it is its own business.
        expect(version == "mqttv5" or status == 0, f"{version} {topic}: {said}")
    line = subscriber.line_where(lambda line: "received PUBLISH" in line)
    expect("'home/hall/lamp'" in line, f"{version}: the first to arrive is {line}")
    subscriber.kill()
    return len(right) + len(wrong) + 2


def connection(port, version, client_id, name, password):
    command = ["-h", HOST, "-p", port, "-V", version, "-i", client_id]
    return command + (["-u", name, "-P", password] if name else [])


def publish(port, version, client_id, name, password, topic):
    command = ["mosquitto_pub", *connection(port, version, client_id, name, password), "-q", "1", "-t", topic, "-m", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout + done.stderr


def make(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    expect(done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}")


def expect(is_so, otherwise):
    if not is_so:
        raise Failure(otherwise)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(f"{failure}")
