#!/usr/bin/env python3
"""Asks of every line whether a test would notice: mutation testing of the crates that decide what MQTT means.

    pip install tree-sitter tree-sitter-rust
    cargo install --locked cargo-mutants

    python3 interop/mutants.py                    # files whose record is missing or out of date, as long as it takes
    python3 interop/mutants.py --minutes 30       # as many of them as fit
    python3 interop/mutants.py --only codec/src/ack
    python3 interop/mutants.py --again            # the recorded survivors alone, after a test was added
    python3 interop/mutants.py --check            # what the record says; runs nothing
    python3 interop/mutants.py --pending          # the files whose record is missing or out of date; runs nothing

`cargo mutants` says which changes there are: one place of a source file, one other operator, one other result. A change
that no test notices is a survivor. Nearly all changes are built at once, each behind a switch (`switches.py`,
`switched.py`); those that cannot be, or that the compiler may have evaluated, are left to `cargo mutants` itself, which
builds the crate for each. A change that makes a test run on for ever is noticed by the processor time or the memory it takes,
however busy the machine is. `docs/mutants.tsv` holds the result of each file with the hash of what was tested, so that a long
run may be cut into pieces. `docs/survivors.tsv` lists each survivor with the reason why no test can or need notice it. At
most 3 % of the viable mutants may survive.
"""

import argparse
import csv
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from switches import Mutant

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "mutants.tsv"
SURVIVORS = ROOT / "docs" / "survivors.tsv"
CRATES = ("topic", "codec", "session", "broker")
# Of the viable mutants, how many may survive.
LIMIT = 0.03
# What one test program may take: many times what any of them needs.
PROCESSOR_SECONDS, MEMORY_BYTES = 20, 6 << 30
RECORD_SECONDS = 60
RECORD_COLUMNS = ("file", "hash", "viable", "survived")
SURVIVOR_COLUMNS = ("mutant", "reason")
Row = dict[str, str]
Record = dict[str, Row]


def main() -> int:
    if sys.argv[1:2] == ["run-tests"]:
        return run_until_failure(sys.argv[2:])
    arguments = parse_arguments()
    files = [file for crate in CRATES for file in sources(crate)]
    record = {row["file"]: row for row in rows(RECORD)}
    record = {file: row for file, row in record.items() if file in files}
    pending = [file for file in files if arguments.only in file and not is_current(record.get(file))]
    if arguments.pending:
        print("".join(f"{file}\n" for file in pending), end="")
        return 0
    if not arguments.check:
        if shutil.which("cargo-mutants") is None:
            sys.exit("cargo-mutants is missing: cargo install --locked cargo-mutants")
        if importlib.util.find_spec("tree_sitter") is None or importlib.util.find_spec("tree_sitter_rust") is None:
            sys.exit("tree-sitter is missing: pip install tree-sitter tree-sitter-rust")
        deadline = time.monotonic() + arguments.minutes * 60
        if arguments.again:
            test_again(arguments.only, record, deadline)
        else:
            test(pending, record, deadline)
    return report(files, record)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after so many minutes")
    parser.add_argument("--only", default="", help="files whose path contains this text")
    parser.add_argument("--again", action="store_true", help="try the recorded survivors once more")
    parser.add_argument("--check", action="store_true", help="judge the record without testing anything")
    parser.add_argument("--pending", action="store_true", help="name the files that a run would test")
    return parser.parse_args()


def sources(crate: str) -> list[str]:
    """The files of a crate that ship; those of unit tests are left out."""
    folder = ROOT / "crates" / crate / "src"
    files = (file.relative_to(ROOT) for file in sorted(folder.rglob("*.rs")))
    return [file.as_posix() for file in files if "tests" not in file.parts]


def rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def write(path: Path, columns: tuple[str, ...], table: list[dict[str, str]]) -> None:
    path.write_text("".join("\t".join(cells) + "\n" for cells in [columns, *([row[c] for c in columns] for row in table)]))


def hash_of(file: str) -> str:
    command = ["git", "hash-object", "--", file]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()[:12]


def is_current(row: Row | None) -> bool:
    return row is not None and row["hash"] == hash_of(row["file"])


def test(pending: list[str], record: Record, deadline: float) -> None:
    """Crate by crate, since each is built once; what is done is recorded even if the run is ended."""
    for crate in CRATES:
        hashes = {file: hash_of(file) for file in pending if file.startswith(f"crates/{crate}/")}
        planned = [mutant for mutant in plan(crate) if mutant.file in hashes] if hashes else []
        for outcomes in judge(crate, planned, deadline) if hashes else ():
            keep(planned, outcomes, hashes, record)


def test_again(only: str, record: Record, deadline: float) -> None:
    """What has come to be noticed leaves the record; a file that has changed since is left to a run of its own."""
    survivors = {row["mutant"] for row in rows(SURVIVORS) if only in row["mutant"]}
    for crate in CRATES:
        planned = [m for m in plan(crate) if place(m.name) in survivors and is_current(record.get(m.file))]
        for outcomes in judge(crate, planned, deadline) if planned else ():
            strike_out(planned, outcomes, record)


def plan(crate: str) -> "list[Mutant]":
    from switches import Mutant

    command = ["cargo", "mutants", "--package", f"damselfly-{crate}", "--list", "--json"]
    listed = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    return [Mutant.from_listed(number, mutant) for number, mutant in enumerate(listed, 1)]


def judge(crate: str, planned: "list[Mutant]", deadline: float) -> Iterator[dict[str, str]]:
    """What is known of the mutants by name, once in a while and at the end."""
    from switched import Switched

    outcomes: dict[str, str] = {}
    switched = Switched(crate, planned)
    switched.build()
    for outcome in switched.run(deadline):
        outcomes |= outcome
        yield outcomes
    left = [mutant for mutant in planned if mutant.name not in outcomes]
    if not left or time.monotonic() >= deadline:
        return
    print(f"{crate}: {len(left)} mutants are left to cargo mutants", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for _ in run_mutants(crate, left, Path(folder), deadline):
            for name in ("caught", "missed", "timeout", "unviable"):
                outcomes |= dict.fromkeys(lines(Path(folder) / "mutants.out" / f"{name}.txt"), name)
            yield outcomes


def run_mutants(crate: str, mutants: "list[Mutant]", folder: Path, deadline: float) -> Iterator[None]:
    """Comes back once in a while and at the end, for what is known by then to be recorded."""
    command = ["cargo", "mutants", "--package", f"damselfly-{crate}", "--output", str(folder), "--no-shuffle"]
    command += ["--cap-lints=true", "--profile", "mutants", "--jobs", "2", "--no-times", "--colors", "never"]
    command += ["--timeout", "600", "--build-timeout", "180"]
    command += [part for mutant in mutants for part in ("--re", pattern(mutant.name))]
    # The examples in the documentation are slow to build and judge nothing that the other tests do not.
    command += ["--", "--lib", "--tests"]
    environment = {**os.environ, "PROPTEST_CASES": "64", runner(): f"{sys.executable} {Path(__file__).resolve()} run-tests"}
    environment.pop("CARGO_TARGET_DIR", None)
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as running:
        while running.poll() is None:
            try:
                running.wait(max(1.0, min(RECORD_SECONDS, deadline - time.monotonic())))
            except (subprocess.TimeoutExpired, KeyboardInterrupt) as end:
                if isinstance(end, KeyboardInterrupt) or time.monotonic() >= deadline:
                    running.send_signal(signal.SIGINT)
                    running.wait()
            yield


def runner() -> str:
    """The variable that names the program which starts the test programs."""
    facts = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = re.search(r"^host: (.*)$", facts, re.MULTILINE)
    assert host is not None, facts
    return f"CARGO_TARGET_{host[1].upper().replace('-', '_')}_RUNNER"


def run_until_failure(command: list[str]) -> int:
    """Runs a test program and ends it at its first failed test: one is enough."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace", preexec_fn=limit) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            if line.startswith("test ") and line.rstrip().endswith("FAILED"):
                running.kill()
                return 101
        return 0 if running.wait() == 0 else 101


def pattern(mutant: str) -> str:
    """What matches the mutant of that name alone."""
    return "^" + re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", mutant) + "$"


def strike_out(again: "list[Mutant]", outcomes: dict[str, str], record: Record) -> None:
    """A name that several places of a file share stays as often as it survived."""
    reasons = {row["mutant"]: row["reason"] for row in rows(SURVIVORS)}
    for file in {mutant.file for mutant in again}:
        mine = [mutant.name for mutant in again if mutant.file == file]
        if all(name in outcomes for name in mine):
            missed = [place(name) for name in mine if outcomes[name] == "missed"]
            record[file]["survived"] = str(len(missed))
            for name in {place(name) for name in mine} - set(missed):
                reasons.pop(name, None)
    write_records(record, reasons)


def keep(planned: "list[Mutant]", outcomes: dict[str, str], hashes: dict[str, str], record: Record) -> None:
    """Records the files of which every mutant was tried."""
    reasons = {row["mutant"]: row["reason"] for row in rows(SURVIVORS)}
    for file in hashes:
        mine = [mutant.name for mutant in planned if mutant.file == file]
        if not all(name in outcomes for name in mine):
            continue
        missed = [place(name) for name in mine if outcomes[name] == "missed"]
        viable = sum(outcomes[name] != "unviable" for name in mine)
        record[file] = {"file": file, "hash": hashes[file], "viable": str(viable), "survived": str(len(missed))}
        reasons = {mutant: reason for mutant, reason in reasons.items() if not mutant.startswith(f"{file}:")} | {
            mutant: reasons.get(mutant, "") for mutant in missed
        }
    write_records(record, reasons)


def write_records(record: Record, reasons: dict[str, str]) -> None:
    write(RECORD, RECORD_COLUMNS, [record[file] for file in sorted(record)])
    write(SURVIVORS, SURVIVOR_COLUMNS, [{"mutant": m, "reason": reasons[m]} for m in sorted(reasons)])


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def place(mutant: str) -> str:
    """A mutant's name without the line, which moves with every edit above it."""
    return re.sub(r":\d+:\d+: ", ": ", mutant, count=1)


def report(files: list[str], record: Record) -> int:
    current = [record[file] for file in files if is_current(record.get(file))]
    viable, survived = (sum(int(row[column]) for row in current) for column in ("viable", "survived"))
    tried = {row["file"] for row in current}
    unexplained = [row["mutant"] for row in rows(SURVIVORS) if not row["reason"] and row["mutant"].split(":")[0] in tried]
    print(f"{len(current)} of {len(files)} files tried as they are: {survived} of {viable} viable mutants survived")
    for mutant in unexplained:
        print(f"without a reason in {SURVIVORS.relative_to(ROOT)}: {mutant}")
    if survived > LIMIT * viable:
        print(f"more than {LIMIT:.0%} survived")
    return 1 if unexplained or survived > LIMIT * viable else 0


if __name__ == "__main__":
    sys.exit(main())
