"""Command line of the storm."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.nemesis import soak
from tests.nemesis.storm import run


def main() -> int:
    """Storm, print what came of it. 1 = something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--round", type=int, help="this round alone")
    parser.add_argument("--only", help="rows of the fault matrix, with commas")
    parser.add_argument("--soak", action="store_true", help="one process that lives through it all")
    parser.add_argument("--json", type=Path, help="write the report here")
    options = parser.parse_args()
    only = frozenset(options.only.split(",")) if options.only else None
    one = {"first": options.round, "rounds": 1} if options.round else {}
    outcome = (
        soak.run(options.minutes, options.seed) if options.soak else run(options.minutes, options.seed, only, **one)
    )
    if options.json:
        options.json.write_text(json.dumps(outcome.report(), indent=1))
    print(outcome)
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())
