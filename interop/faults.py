#!/usr/bin/env python3
"""Shows what the reference model notices: puts one fault after the other into the broker core and plays histories.

    python3 interop/faults.py                        # all of them, each until a history is not agreed about
    python3 interop/faults.py --only alias           # those with this in their name
    python3 interop/faults.py --check                # whether every fault still applies; builds nothing
    python3 interop/faults.py --write                # all of them, and the table of docs/testing.md anew

A fault of `interop/faults.txt` is a name and one replacement in one file: the text has to stand there once. It is made in a
copy of the tree, below the target directory, so that cargo builds only what changed. A row of the table is a fault and the
number of the first history of seed 1 that was not agreed about, counted from 0. A fault that is not found, one that does
not apply and one that does not compile fail the run.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "interop" / "faults.txt"
PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- faults -->\n", "<!-- end of faults -->\n"
TEST = "model::the_broker_agrees_with_the_reference_over_histories"


class Fault(NamedTuple):
    name: str
    file: str
    old: str
    new: str


def main() -> int:
    arguments = parse_arguments()
    faults = [fault for fault in read_faults() if arguments.only in fault.name]
    misfits = [fault for fault in faults if (ROOT / fault.file).read_text().count(fault.old) != 1]
    for fault in misfits:
        print(f"does not apply to {fault.file} once: {fault.name}")
    if misfits or arguments.check:
        return 1 if misfits else 0
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    tree = copy_tree(target / "faults")
    found: dict[str, str] = {}
    for fault in faults:
        found[fault.name] = try_fault(fault, tree, target / "faults" / "target", arguments.histories)
        print(f"{found[fault.name]:>12}  {fault.name}", flush=True)
    if arguments.write and not arguments.only:
        write_table(found)
    return 0 if all(result.isdigit() for result in found.values()) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="faults whose name contains this text")
    parser.add_argument("--histories", type=int, default=2_000, help="play so many at most")
    parser.add_argument("--check", action="store_true", help="only whether every fault applies")
    parser.add_argument("--write", action="store_true", help="write the table of docs/testing.md")
    return parser.parse_args()


def read_faults() -> list[Fault]:
    """Entries of `# name`, `file path`, `-` lines that stand there and `+` lines that replace them."""
    faults = []
    for entry in re.split(r"^# ", FAULTS.read_text(), flags=re.MULTILINE)[1:]:
        name, file, *lines = entry.rstrip("\n").split("\n")
        sides = {sign: "\n".join(line[1:] for line in lines if line.startswith(sign)) for sign in "-+"}
        faults.append(Fault(name, file.removeprefix("file "), sides["-"], sides["+"]))
    names = [fault.name for fault in faults]
    assert len(set(names)) == len(names), "two faults of one name"
    return faults


def copy_tree(to: Path) -> Path:
    """What git knows of, as it is in the working tree. What did not change keeps its time, for cargo."""
    tree = to / "tree"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    files = [file for file in listed if (ROOT / file).is_file()]
    for old in tree.glob("crates/**/*.rs"):
        if old.relative_to(tree).as_posix() not in files:
            old.unlink()
    for file in files:
        content, copy = (ROOT / file).read_bytes(), tree / file
        if not copy.exists() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
    return tree


def try_fault(fault: Fault, tree: Path, target: Path, histories: int) -> str:
    file = tree / fault.file
    whole = file.read_text()
    file.write_text(whole.replace(fault.old, fault.new))
    environment = dict(
        os.environ,
        CARGO_TARGET_DIR=str(target),
        CARGO_PROFILE_CHECKED_DEBUG="false",
        RUSTFLAGS="--cap-lints=allow",
        RUST_BACKTRACE="0",
        DAMSELFLY_HISTORIES=str(histories),
        DAMSELFLY_SEED="1",
        DAMSELFLY_SHRINK="0",
    )
    build = ["cargo", "test", "--quiet", "--profile", "checked", "-p", "damselfly-sim", "--test", "it"]
    try:
        if subprocess.run([*build, "--no-run"], cwd=tree, env=environment, capture_output=True, check=False).returncode:
            return "no build"
        run = subprocess.run(
            [*build, TEST], cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
    except subprocess.TimeoutExpired:
        return "no end"
    finally:
        file.write_text(whole)
    disagreed = re.search(r"history (\d+) of seed \d+ disagrees", run.stdout + run.stderr)
    if disagreed:
        return disagreed[1]
    return "not found" if run.returncode == 0 else "crash"


def write_table(found: dict[str, str]) -> None:
    rows = ["| fault | history |\n", "|---|---:|\n", *(f"| {name} | {result} |\n" for name, result in found.items())]
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + BEGIN + "\n" + "".join(rows) + "\n" + END + after)


if __name__ == "__main__":
    sys.exit(main())
