"""Command line: plant each bug, hunt it, and say by what it was caught."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.hunts import hunt
from tests.mutants.planted import MUTANTS
from tests.mutants.tree import plant
from tests.nemesis.stage import Servers


def main() -> int:
    """1 = a bug got away, or a hunt found trouble where nothing was planted."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--only", help="names, with commas")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--without", action="store_true", help="the same hunts, nothing planted")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [mutant.name for mutant in MUTANTS]
    failed = 0
    with Servers() as servers:
        for mutant in MUTANTS:
            if mutant.name not in wanted:
                continue
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="deltaforge-mutant-") as folder:
                source = plant(None if options.without else mutant, Path(folder) / "source")
                verdict = hunt(mutant.hunt, servers, source, Path(folder), options.seed)
            good = verdict.clean if options.without else mutant.invariant in verdict.broken
            failed += not good
            said = "as it should be" if good else "WRONG"
            found = ", ".join(sorted(verdict.broken)) or "nothing"
            print(
                f"{mutant.name:<28} {mutant.invariant:<4} found {found:<24} {time.monotonic() - began:4.0f} s  {said}"
            )
            if not good:
                print(verdict)
            sys.stdout.flush()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
