#!/usr/bin/env python3
"""Runs the conformance cases against Debian's mosquitto, and compares what it fails with what is known.

    python3 interop/mosquitto.py            # compares with docs/conformance-mosquitto.tsv and .md
    python3 interop/mosquitto.py --write    # writes docs/conformance-mosquitto.md

It is a check of our checks: a case that mosquitto fails was looked at twice, and the table says in one sentence why it is
not the case that is wrong. A case that fails and is not in the table, or is in the table and passes, fails this check.
Needs `cargo build -p damselfly-examples --bin mqtt` and mosquitto (`apt-get install mosquitto`).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from runner import brokers, clients
from runner.processes import Failure

DOCS = Path(__file__).resolve().parent.parent / "docs"
TABLE = DOCS / "conformance-mosquitto.tsv"
PAGE = DOCS / "conformance-mosquitto.md"

# The table is about this one; of others the outcome is shown and not compared.
VERSION = "2.0.11"

# The runner bounds itself; this is for a runner that does not.
LIMIT_SECONDS = 120

HEAD = """\
# What mosquitto {version} fails

<!-- Written by `python3 interop/mosquitto.py --write`: edit conformance-mosquitto.tsv and the cases. -->

`mqtt conformance` says the following of Debian's mosquitto {version}, started with `allow_anonymous true` on a port of the
loopback address: of {total} cases, each counted once for 3.1.1 and once for 5.0, it passes {passed}; {skipped} are about brokers
that lack what it has, or need what it lacks. `.ci/run mosquitto` runs this again and fails on any difference.

It is here as a check of our checks. Each case below was looked at twice, with the text of the standard beside it, before we
held it to be mosquitto's fault; a case about a will that waits and a client that comes back with a clean start did not
survive that, since [MQTT-3.1.2-8] lets a broker do either. What the standard only recommends, such as DISCONNECT with a Reason
Code before the connection is closed, is remarked by the runner and not counted here. Later versions of mosquitto may well do
better.

| case | versions | what has to be true | statements | mosquitto {version} |
|---|---|---|---|---|
"""


def main() -> int:
    arguments = parse_arguments()
    found = installed_version()
    runs = outcomes(arguments.target / "mqtt")
    failed = {(run["case"], run["version"]) for run in runs if run["outcome"] == "failed"}
    print(f"mosquitto {found}: {len(runs)} cases, {len(failed)} failed")
    if found != VERSION:
        print(f"the table is about {VERSION}: not compared")
        return 0
    rows = table()
    listed = {(case, version) for case, versions, _ in rows for version in versions.split()}
    problems = [f"fails and is not in {TABLE.name}: {title(run)}" for run in runs if key(run) in failed - listed]
    problems += [f"is in {TABLE.name} and does not fail: {' '.join(one)}" for one in sorted(listed - failed)]
    page = page_of(rows, runs, failed)
    if arguments.write and not problems:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        problems.append(f"{PAGE.name} is out of date: python3 interop/mosquitto.py --write")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def installed_version() -> str:
    # Its help ends with status 3.
    text = subprocess.run([brokers.MOSQUITTO, "-h"], capture_output=True, text=True, timeout=LIMIT_SECONDS).stdout
    match = re.search(r"mosquitto version (\S+)", text)
    if not match:
        raise Failure(f"{brokers.MOSQUITTO} does not say its version: {text[:200]}")
    return match.group(1)


def outcomes(program):
    with tempfile.TemporaryDirectory() as directory, brokers.start("mosquitto", None) as broker:
        report = Path(directory) / "report.json"
        address = f"{broker.host}:{broker.port}"
        command = [program, "conformance", "--address", address, "--json", report, "--quiet"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        if ended.returncode not in (0, 4):
            raise Failure(f"mqtt conformance ended with {ended.returncode}: {ended.stderr}")
        return json.loads(report.read_text())["runs"]


def table():
    lines = TABLE.read_text().splitlines()[1:]
    return [line.split("\t") for line in lines]


def page_of(rows, runs, failed) -> str:
    by_case = {}
    for run in runs:
        if key(run) in failed:
            by_case.setdefault(run["case"], []).append(run)
    counts = {what: sum(run["outcome"] == what for run in runs) for what in ("passed", "skipped")}
    page = HEAD.format(version=VERSION, total=len(runs), **counts)
    for case, versions, why in rows:
        mine = by_case.get(case, [])
        about = mine[0]["about"] if mine else ""
        statements = " ".join(statement for run in mine for statement in run["statements"])
        page += f"| {case} | {versions} | {about} | {statements} | {why} |\n"
    return page


def key(run):
    return run["case"], run["version"]


def title(run) -> str:
    lines = [f"{run['case']} {run['version']}: {run['about']}", *run["transcript"]]
    return "\n    ".join([*lines, f"expected: {run['expected']}", f"came: {run['came']}"])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, default=clients.default_target(), help="directory of the built programs")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(str(failure))
