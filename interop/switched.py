"""Builds the tests of a crate once with all of its mutants behind switches, and runs them for one mutant after the other."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from switches import SWITCH, File, Mutant

ROOT = Path(__file__).resolve().parent.parent
# Whose tests judge a crate besides its own: those that play whole conversations.
JUDGES = {"topic": ("broker",), "codec": ("broker", "client"), "session": ("broker", "client"), "broker": ("sim",)}
# What one test program may take: many times what any of them needs.
PROCESSOR_SECONDS, WALL_SECONDS, MEMORY_BYTES = 10, 300, 6 << 30
JOBS, PORTION = os.cpu_count() or 2, 100
OUTCOMES = {True: "missed", False: "caught"}
# Optimised a little: it is built once and run hundreds of times. A failed case need not be made small.
PROFILE = {"opt-level": "1", "debug": "false", "incremental": "false"}
ENVIRONMENT = {
    "PROPTEST_CASES": "64",
    "PROPTEST_MAX_SHRINK_ITERS": "0",
    "DAMSELFLY_SHRINK": "0",
    "DAMSELFLY_SEEDS": "40",
}


class Switched:
    """A copy of the project in which the files of one crate hold their mutants."""

    def __init__(self, crate: str, mutants: list[Mutant]) -> None:
        self.crate, self.mutants = crate, mutants
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.tree, self.target = target / "switched" / "tree", target / "switched"
        copy_project(self.tree)
        add_switch(self.tree, crate)
        by_file = defaultdict(list)
        for mutant in mutants:
            by_file[mutant.file].append(mutant)
        self.files = {file: File((ROOT / file).read_text(), found) for file, found in by_file.items()}
        self.programs: list[tuple[str, str]] = []

    def build(self) -> None:
        """Takes back what does not compile until the rest does."""
        for round in range(60):
            for file, switched in self.files.items():
                text = switched.text()
                if (self.tree / file).read_text() != text:
                    (self.tree / file).write_text(text)
            errors = list(self.errors())
            if not errors:
                break
            left = sum(len(file.left_out) for file in self.files.values())
            print(f"{self.crate}: {len(errors)} errors in round {round + 1}, {left} mutants left out so far", flush=True)
            self.take_back(errors)
        judges = JUDGES.get(self.crate, ())
        messages = self.cargo("test", "--no-run", *(part for judge in judges for part in ("--package", f"damselfly-{judge}")))
        programs = [
            (message["executable"], str(Path(message["manifest_path"]).parent))
            for message in messages
            if message.get("reason") == "compiler-artifact" and message.get("executable") and message["profile"]["test"]
        ]
        # Its own tests first: they fail soonest.
        self.programs = sorted(programs, key=lambda program: not program[1].endswith(f"/crates/{self.crate}"))
        failed = [program for program, folder in self.programs if not passes(program, folder, 0)]
        if failed or not self.programs:
            sys.exit(f"with all mutants of {self.crate} switched off, these do not pass: {failed}")

    def errors(self) -> Iterator[dict]:
        seen = set()
        for message in self.cargo("check"):
            text = json.dumps(message.get("message"))
            if message.get("reason") == "compiler-message" and message["message"]["level"] == "error" and text not in seen:
                seen.add(text)
                if message["message"]["spans"]:
                    yield message["message"]

    def take_back(self, errors: list[dict]) -> None:
        texts = {file: switched.text() for file, switched in self.files.items()}
        for error in errors:
            spans = sorted(error["spans"], key=lambda span: not span["is_primary"])
            places = [place for span in spans for place in expansion(span)]
            is_exhaustiveness = (error["code"] or {}).get("code") == "E0004"
            if not any(
                (file.refuse_arms if is_exhaustiveness else file.refuse)(texts[name], place["byte_start"], place["byte_end"])
                for place in places
                for name in [place["file_name"]]
                if (file := self.files.get(name))
            ):
                sys.exit(f"an error that no mutant explains:\n{error['rendered']}")

    def cargo(self, command: str, *arguments: str) -> list[dict]:
        profile = [part for key, value in PROFILE.items() for part in ("--config", f"profile.dev.{key}={value}")]
        line = ["cargo", command, "--package", f"damselfly-{self.crate}", "--lib", "--tests", *arguments]
        environment = {**os.environ, "RUSTC_BOOTSTRAP": "mutation_switch", "RUSTFLAGS": "--cap-lints allow"}
        environment["CARGO_TARGET_DIR"] = str(self.target)
        done = subprocess.run(
            [*line, "--message-format", "json", "--quiet", *profile],
            cwd=self.tree, env=environment, stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 and not any(message.get("reason") == "compiler-message" for message in messages):
            sys.exit(f"cargo {command} failed")
        return messages

    def run(self, deadline: float) -> Iterator[dict[str, str]]:
        """What became of each mutant that a switch could be made for, by name, a few at a time."""
        left_out = {number for file in self.files.values() for number in file.left_out}
        constant = {number for file in self.files.values() for number in file.constant}
        tried = [mutant for mutant in self.mutants if mutant.number not in left_out]
        started = time.monotonic()
        with ThreadPoolExecutor(JOBS) as pool:
            for first in range(0, len(tried), PORTION):
                portion = tried[first : first + PORTION]
                passed = pool.map(lambda mutant: self.judge(mutant, deadline), portion)
                outcomes = {}
                for mutant, passes in zip(portion, passed, strict=True):
                    # What passes in a const fn, the compiler may have run before a test could ask.
                    if passes is not None and not (passes and mutant.number in constant):
                        outcomes[mutant.name] = OUTCOMES[passes]
                        if passes:
                            print(f"survived: {mutant.name}", flush=True)
                seconds = time.monotonic() - started
                print(f"{self.crate}: {first + len(portion)} of {len(tried)} in {seconds:.0f} s", flush=True)
                yield outcomes

    def judge(self, mutant: Mutant, deadline: float) -> bool | None:
        return self.passes(mutant.number) if time.monotonic() < deadline else None

    def passes(self, number: int) -> bool:
        return all(passes(program, folder, number) for program, folder in self.programs)


def passes(program: str, folder: str, number: int) -> bool:
    """Runs a test program and ends it at its first failed test: one is enough."""
    limits = [f"--cpu={PROCESSOR_SECONDS}", f"--as={MEMORY_BYTES}", "--core=0"]
    command = ["timeout", str(WALL_SECONDS), "prlimit", *limits, program, "--test-threads=1"]
    environment = {**os.environ, **ENVIRONMENT, "MUTANT": str(number)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("test ") and line.rstrip().endswith("FAILED"):
                running.terminate()
                return False
        return running.wait() == 0


def expansion(span: dict) -> Iterator[dict]:
    """Where an error is said to be, and where the macro was called that it is in."""
    yield span
    if span.get("expansion"):
        yield from expansion(span["expansion"]["span"])


def copy_project(tree: Path) -> None:
    """What git knows, as it stands; a file that did not change keeps its time."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = {file for file in listed.split("\0") if file and (ROOT / file).is_file()}
    for old in [path for path in tree.rglob("*") if path.is_file()]:
        if old.relative_to(tree).as_posix() not in files:
            old.unlink()
    for file in files:
        new = tree / file
        if not new.exists() or new.read_bytes() != (ROOT / file).read_bytes():
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, new)


def add_switch(tree: Path, crate: str) -> None:
    folder = tree / "crates" / "mutation_switch"
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "src" / "lib.rs").write_text(SWITCH)
    (folder / "Cargo.toml").write_text('[package]\nname = "mutation_switch"\nversion = "0.0.0"\nedition = "2024"\n')
    manifest = tree / "crates" / crate / "Cargo.toml"
    text = manifest.read_text()
    dependency = 'mutation_switch = { path = "../mutation_switch" }\n'
    manifest.write_text(text.replace("[dependencies]\n", "[dependencies]\n" + dependency, 1))
