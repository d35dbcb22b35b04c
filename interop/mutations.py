#!/usr/bin/env python3
"""Shows that the simulated worlds notice faults of the cores: each patch in crates/sim/mutations puts one into a copy.

    python3 interop/mutations.py                          # all of them, 2,000 seeds each
    python3 interop/mutations.py --only client-dup-lost --only window-too-large
    python3 interop/mutations.py --profile checked --seeds 20000

A patch that does not apply any more, or does not compile, is an error, as is one that no seed notices. What it prints of
each is the first seed that does not hold, or that a core panicked.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from faults import copy_tree

ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "crates" / "sim" / "mutations"
PANICKED = 101


def main() -> int:
    arguments = parse_arguments()
    patches = sorted(PATCHES.glob("*.patch"))
    names = [patch.stem for patch in patches]
    unknown = [name for name in arguments.only if name not in names]
    if unknown:
        sys.exit(f"no such mutation: {', '.join(unknown)}")
    chosen = [patch for patch in patches if not arguments.only or patch.stem in arguments.only]
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    tree = copy_tree(target / "mutations")
    bad = 0
    for patch in chosen:
        is_noticed, words = judge(tree, patch, arguments, target)
        print(f"{patch.stem}: {words}", flush=True)
        bad += not is_noticed
    print(f"{len(chosen) - bad} of {len(chosen)} mutations are noticed")
    return 1 if bad or not chosen else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], help="the name of a patch; may be given several times")
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--profile", default="dev")
    return parser.parse_args()


def judge(tree: Path, patch: Path, arguments: argparse.Namespace, target: Path) -> tuple[bool, str]:
    applied = apply(tree, patch)
    if applied.returncode != 0:
        return False, f"DOES NOT APPLY: {applied.stderr.strip()}"
    try:
        cargo = ["cargo", "build", "--quiet", "--profile", arguments.profile, "-p", "damselfly-sim", "--example", "seeds"]
        environment = os.environ | {"CARGO_TARGET_DIR": str(target)}
        built = subprocess.run(cargo, cwd=tree, env=environment, capture_output=True, text=True)
        if built.returncode != 0:
            return False, f"DOES NOT COMPILE\n{built.stderr}"
        folder = "debug" if arguments.profile == "dev" else arguments.profile
        program = target / folder / "examples" / "seeds"
        # The seed is enough here: its script would take a while.
        command = [program, "--seeds", str(arguments.seeds), "--shrink", "0"]
        played = subprocess.run(command, capture_output=True, text=True)
        return verdict(played, arguments.seeds)
    finally:
        apply(tree, patch, "--reverse").check_returncode()


def apply(tree: Path, patch: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["patch", "--batch", "--forward", "--strip=1", "--fuzz=0", "--no-backup-if-mismatch", f"--input={patch}"]
    if options:
        command.remove("--forward")
    result = subprocess.run([*command, *options], cwd=tree, capture_output=True, text=True)
    result.stderr += result.stdout if result.returncode else ""
    return result


def verdict(played: subprocess.CompletedProcess[str], seeds: int) -> tuple[bool, str]:
    found = re.search(r"^seed \d+: .*", played.stdout, re.MULTILINE)
    if played.returncode == 1 and found:
        return True, found[0]
    if played.returncode == PANICKED:
        panic = [line for line in played.stderr.splitlines() if line][:2]
        return True, f"a panic: {' '.join(panic)}"
    if played.returncode == 0:
        return False, f"SURVIVED {seeds} seeds"
    return False, f"ended with {played.returncode}: {played.stdout}{played.stderr}"


if __name__ == "__main__":
    sys.exit(main())
