#!/usr/bin/env python3
"""Drives MQTT clients that others wrote against a broker on loopback, and checks what they report.

    python3 interop/run.py --broker ours            # the `broker` program of this workspace
    python3 interop/run.py --broker mosquitto       # Debian's broker: a second opinion on a failure

The clients are Debian's mosquitto_pub, mosquitto_sub and mosquitto_rr, paho-mqtt 2.x (for this interpreter), over
WebSocket and TLS too, MQTT.js in node (`npm ci --prefix interop/mqttjs`) over those, and rumqttc (`cargo build -p
damselfly-interop --features rumqttc`). Every case runs for each client and each version it speaks; one that could not run
has failed.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from runner import brokers, cases, clients
from runner.processes import Failure

# What runs without --only: a case that silently fell out of the plan is noticed here.
EXPECTED_CASES = 617


def main() -> int:
    # Whoever ends this run ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before all cases ran"))
    arguments = parse_arguments()
    programs = clients.programs(arguments.target)
    plan = [
        (case, program, version)
        for program in programs
        for version in program.versions
        for case in cases.CASES
        if case.applies_to(program, version)
    ]
    if arguments.only:
        plan = [step for step in plan if arguments.only in title(step)]
    elif len(plan) != EXPECTED_CASES:
        print(f"the plan has {len(plan)} cases and not {EXPECTED_CASES}")
        return 1

    failed = []
    with brokers.start(arguments.broker, arguments.program or arguments.target / "broker") as broker:
        print(f"{broker.description} at {broker.host}:{broker.port}, {len(plan)} cases")
        for number, (case, program, version) in enumerate(plan, 1):
            started = time.monotonic()
            problem = case.run(program, version, broker, number)
            seconds = time.monotonic() - started
            print(f"{'FAIL' if problem else 'ok  '} {title((case, program, version))} {seconds:.1f} s", flush=True)
            if problem:
                print("     " + problem.replace("\n", "\n     "))
                failed.append(title((case, program, version)))
        still_up = broker.is_running()
    if not still_up:
        print("the broker ended before it was asked to")
    for name in failed:
        print(f"failed: {name}")
    print(f"{len(plan) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not still_up else 0


def title(step) -> str:
    case, program, version = step
    return f"{program.title} {version} {case.name}"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=["ours", "mosquitto"], default="ours")
    parser.add_argument("--program", type=Path, help="the broker's program, where it is not in the target directory")
    parser.add_argument("--target", type=Path, default=clients.default_target(), help="directory of the built programs")
    parser.add_argument("--only", help="run the cases whose title contains this text, such as 'paho 5.0 will'")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:  # no broker, no cases
        sys.exit(f"{failure}")
