#!/usr/bin/env python3
"""Asks of every line whether a test would notice: mutation testing of the crates that decide what MQTT means.

    python3 interop/mutants.py                    # files whose record is missing or out of date, as long as it takes
    python3 interop/mutants.py --minutes 30       # as many of them as fit
    python3 interop/mutants.py --only codec/src/ack
    python3 interop/mutants.py --again            # the recorded survivors alone, after a test was added
    python3 interop/mutants.py --check            # what the record says; runs nothing

`cargo install --locked cargo-mutants` is needed. A run changes one place of a source file after the other and calls the
tests of its crate until one fails; a change that no test notices is a survivor. A change that makes a test run on for ever
is noticed by the processor time or the memory it takes, however busy the machine is. `docs/mutants.tsv` holds the result of each file with the
hash of what was tested, so that a long run may be cut into pieces. `docs/survivors.tsv` lists each survivor with the reason
why no test can or need notice it. At most 3 % of the viable mutants may survive.
"""

import argparse
import csv
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

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "mutants.tsv"
SURVIVORS = ROOT / "docs" / "survivors.tsv"
CRATES = ("topic", "codec", "session", "broker")
# Of the viable mutants, how many may survive.
LIMIT = 0.03
# What one test program may take: many times what any of them needs.
PROCESSOR_SECONDS, MEMORY_BYTES = 20, 6 << 30
RECORD_SECONDS = 60
# The tests that judge a mutant. Where a crate has few unit tests, building them for each mutant takes longer than it is
# worth: they are asked by `--again`.
ALL, FIRST = ("--lib", "--tests"), {"broker": ("--test", "it")}
# Tests that take nine tenths of their program's time: they are asked when the others noticed nothing.
SLOW = (
    "joining_choosing_and_leaving_take_few_steps",
    "many_publishers_with_many_topics_may_wait_for_room_at_once",
    "a_message_that_finds_no_free_packet_identifier_waits_for_one",
    "any_history_leaves_nothing_behind",
    "a_client_that_does_not_read_its_answers_is_not_read_either",
    "the_identifiers_of_a_delivery_count",
    "two_joined_brokers_deliver_what_one_does",
    "a_message_comes_once_to_each_who_was_told_to_be_subscribed",
    "a_session_that_ends_with_very_many_subscriptions_goes_in_steps",
    "a_takeover_at_any_moment_cancels_answers",
    "a_member_that_ends_with_very_many_subscriptions_is_not_there_any_more",
    "a_table_behaves_like_a_map",
    "texts_outlive_the_clearing_of_their_chunks",
    "an_order_stays_sorted",
    "a_map_agrees_with_asking_every_name",
    "an_index_agrees_with_a_list_of_filters",
    "relations_agree_with_an_enumeration_of_names",
    "holds_a_half_more_than_it_needs_at_most",
    "finds_each_lasting_subscription_once",
    "visits_each_lasting_topic_once",
    "subscribers_of_one_filter_can_leave_in_any_runs",
    "a_stream_of_all_vectors_comes_out_whole",
    "the_table_is_as_large_as_it_should_be",
    "vectors_on_connections_of_another_version_do_no_harm",
)
RECORD_COLUMNS = ("file", "hash", "viable", "survived")
SURVIVOR_COLUMNS = ("mutant", "reason")


def main() -> int:
    if sys.argv[1:2] == ["run-tests"]:
        return run_until_failure(sys.argv[2:])
    arguments = parse_arguments()
    files = [file for crate in CRATES for file in sources(crate)]
    record = {row["file"]: row for row in rows(RECORD)}
    record = {file: row for file, row in record.items() if file in files}
    if not arguments.check:
        pending = [file for file in files if arguments.only in file and not is_current(record.get(file))]
        if shutil.which("cargo-mutants") is None:
            sys.exit("cargo-mutants is missing: cargo install --locked cargo-mutants")
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


def is_current(row: dict[str, str] | None) -> bool:
    return row is not None and row["hash"] == hash_of(row["file"])


def test(pending: list[str], record: dict[str, dict[str, str]], deadline: float) -> None:
    """Crate by crate, since each is built once; what is done is recorded even if the run is ended."""
    for crate in CRATES:
        mine = [file for file in pending if file.startswith(f"crates/{crate}/")]
        if mine and time.monotonic() < deadline:
            hashes = {file: hash_of(file) for file in mine}
            with tempfile.TemporaryDirectory() as folder:
                selection = [part for file in mine for part in ("--file", file)]
                for _ in run_mutants(crate, selection, FIRST.get(crate, ALL), Path(folder), deadline):
                    keep(Path(folder) / "mutants.out", hashes, record)


def test_again(only: str, record: dict[str, dict[str, str]], deadline: float) -> None:
    """What has come to be noticed leaves the record; a file that has changed since is left to a run of its own."""
    for crate in CRATES:
        survivors = [row["mutant"] for row in rows(SURVIVORS) if row["mutant"].startswith(f"crates/{crate}/")]
        mine = [mutant for mutant in survivors if only in mutant and is_current(record.get(mutant.split(":")[0]))]
        if mine and time.monotonic() < deadline:
            with tempfile.TemporaryDirectory() as folder:
                selection = [part for mutant in mine for part in ("--re", pattern(mutant))]
                for _ in run_mutants(crate, selection, ALL, Path(folder), deadline):
                    pass
                strike_out(Path(folder) / "mutants.out", mine, record)


def run_mutants(crate: str, selection: list[str], targets: tuple[str, ...], folder: Path, deadline: float) -> Iterator[None]:
    """Comes back once in a while and at the end, for what is known by then to be recorded."""
    command = ["cargo", "mutants", "--package", f"damselfly-{crate}", "--output", str(folder), "--no-shuffle"]
    command += ["--cap-lints=true", "--profile", "mutants", "--jobs", "2", "--no-times", "--colors", "never"]
    command += ["--timeout", "600", "--build-timeout", "600", *selection]
    # The examples in the documentation are slow to build and judge nothing that the other tests do not.
    command += ["--", *targets]
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
    skipped = [part for name in SLOW for part in ("--skip", name)]
    return run_bounded([*command, *skipped]) or run_bounded([*command, *SLOW])


def run_bounded(command: list[str]) -> int:
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
    """What matches the mutant of that name, wherever in its file it stands."""
    file, text = mutant.split(": ", 1)
    literal = re.compile(r"([\\.+*?()|\[\]{}^$])")
    return "^" + literal.sub(r"\\\1", file) + r":\d+:\d+: " + literal.sub(r"\\\1", text) + "$"


def strike_out(output: Path, again: list[str], record: dict[str, dict[str, str]]) -> None:
    """A name that several places of a file share stays as often as it survived."""
    missed = [place(mutant) for mutant in lines(output / "missed.txt")]
    noticed = {place(mutant) for name in ("caught", "timeout") for mutant in lines(output / f"{name}.txt")} - set(missed)
    kept = [row for row in rows(SURVIVORS) if row["mutant"] not in noticed]
    for file in {mutant.split(":")[0] for mutant in again}:
        tried = {place(mutant) for mutant in missed if mutant.startswith(f"{file}:")} | noticed
        if {mutant for mutant in again if mutant.startswith(f"{file}:")} <= tried:
            record[file]["survived"] = str(sum(mutant.startswith(f"{file}:") for mutant in missed))
    write(RECORD, RECORD_COLUMNS, [record[file] for file in sorted(record)])
    write(SURVIVORS, SURVIVOR_COLUMNS, kept)


def keep(output: Path, hashes: dict[str, str], record: dict[str, dict[str, str]]) -> None:
    """Records the files of which every mutant was tried."""
    if not (output / "mutants.json").exists():
        return
    planned = listed(output / "mutants.json")
    outcomes = {name: lines(output / f"{name}.txt") for name in ("caught", "missed", "timeout", "unviable")}
    reasons = {row["mutant"]: row["reason"] for row in rows(SURVIVORS)}
    for file in hashes:
        tried = {name: [place(mutant) for mutant in found if mutant.startswith(f"{file}:")] for name, found in outcomes.items()}
        if sum(map(len, tried.values())) != planned.count(file):
            continue
        viable = sum(len(tried[name]) for name in ("caught", "missed", "timeout"))
        row = {"file": file, "hash": hashes[file], "viable": str(viable), "survived": str(len(tried["missed"]))}
        record[file] = row
        reasons = {mutant: reason for mutant, reason in reasons.items() if not mutant.startswith(f"{file}:")} | {
            mutant: reasons.get(mutant, "") for mutant in tried["missed"]
        }
    write(RECORD, RECORD_COLUMNS, [record[file] for file in sorted(record)])
    write(SURVIVORS, SURVIVOR_COLUMNS, [{"mutant": m, "reason": reasons[m]} for m in sorted(reasons)])


def listed(plan: Path) -> list[str]:
    """The file of each mutant that was planned."""
    return re.findall(r'^ {4}"file": "(.*)",$', plan.read_text(), re.MULTILINE)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def place(mutant: str) -> str:
    """A mutant's name without the line, which moves with every edit above it."""
    return re.sub(r":\d+:\d+: ", ": ", mutant, count=1)


def report(files: list[str], record: dict[str, dict[str, str]]) -> int:
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
