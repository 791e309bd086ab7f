"""The command line: `python -m tests.recorder [--check] [--directory DIRECTORY] FILE...`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.recorder.masks import differences
from tests.recorder.script import parse
from tests.recorder.session import record

DATA = Path(__file__).parent.parent / "data" / "debezium"


def main() -> int:
    """Record, or compare with what is recorded; 1 when it differs."""
    arguments = argparse.ArgumentParser(prog="python -m tests.recorder", description="Record what Debezium writes.")
    arguments.add_argument("name", nargs="+", help="FILE for all recordings of FILE.sql, FILE/NAME for one of them")
    arguments.add_argument("--directory", type=Path, default=DATA, help="where the files are")
    arguments.add_argument("--check", action="store_true", help="compare with the recording instead of writing it")
    chosen = arguments.parse_args()
    return max([_run(chosen.directory, name, check=chosen.check) for name in chosen.name])


def _run(directory: Path, name: str, *, check: bool) -> int:
    file, _, only = name.partition("/")
    text = (directory / f"{file}.sql").read_text()
    script = parse(file, text)
    differing = 0
    for recording, options in script.recordings.items():
        if only in ("", recording):
            lines = record(script, options)
            target = directory / f"{recording}.jsonl"
            if check:
                found = differences([json.loads(line) for line in target.read_text().splitlines()], lines, text)
                differing = max(differing, int(bool(found)))
                sys.stdout.write("".join(f"{difference}\n" for difference in found))
            else:
                target.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            sys.stdout.write(f"{recording}: {len(lines)} records\n")
    return differing


if __name__ == "__main__":
    sys.exit(main())
