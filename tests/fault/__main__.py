"""The fault rig: run the rows of the fault matrix, tell what came of each, and storm with random faults.

    python -m tests.fault                      every row at full size, then ten minutes of random faults
    python -m tests.fault --quick              the quick variants, at most ten minutes
    python -m tests.fault --minutes 60         random faults alone, for so long
    python -m tests.fault --only P4,K11        these rows
    python -m tests.fault --list               rows and their tests
    python -m tests.fault --page > docs/explanation/failure-modes.md

Ends with 0 when all was well; 1 when a test failed or anything was lost, doubled, reordered or torn; 2 when it could
not do what was asked.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fault.marks import TESTS, by_row, contradictions, marked
from tests.fault.matrix import MatrixError, Row, chosen, load
from tests.fault.page import page
from tests.fault.report import Report
from tests.fault.run import run_tests
from tests.fault.storm import USUAL_MINUTES, StormMissing, storm, storm_rows
from tests.fault.versions import versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fault.marks import Coverage

CLEAN, TROUBLE, UNABLE = range(3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Returns the exit code."""
    wanted = _parser().parse_args(arguments)
    try:
        everything = load()
        covered = by_row(everything, marked(), storm_rows())
        rows = chosen(everything, wanted.only)
    except MatrixError as error:
        print(f"fault matrix: {error}", file=sys.stderr)
        return UNABLE
    wrong = contradictions(everything, covered)
    print("".join(f"fault matrix: {line}\n" for line in wrong), end="", file=sys.stderr)
    if wanted.page:
        sys.stdout.write(page(everything, covered))
        return UNABLE if wrong else CLEAN
    if wanted.list:
        print("\n".join(_listed(row, covered[row.id]) for row in rows.values()))
        return CLEAN
    return _run(wanted, everything, rows, covered)


def _run(
    wanted: argparse.Namespace, everything: dict[str, Row], rows: dict[str, Row], covered: dict[str, Coverage]
) -> int:
    mode = "quick" if wanted.quick else "storm" if wanted.minutes is not None else "full"
    seed = wanted.seed if wanted.seed is not None else random.randrange(1, 1_000_000)
    report = Report(mode, seed, datetime.now(UTC).isoformat(timespec="seconds"), versions(), rows)
    print(f"{mode}, seed {seed}", flush=True)
    began = time.monotonic()
    if mode != "storm":
        _run_tests(report, everything, covered)
    if mode == "storm" or (mode == "full" and wanted.only is None):
        minutes = wanted.minutes if wanted.minutes is not None else USUAL_MINUTES
        _storm(report, minutes, frozenset(wanted.only) if wanted.only else None)
    report.seconds = time.monotonic() - began
    print(report.table(), flush=True)
    if wanted.json is not None:
        report.write(wanted.json)
    return TROUBLE if not report.clean else UNABLE if report.problems else CLEAN


def _run_tests(report: Report, everything: dict[str, Row], covered: dict[str, Coverage]) -> None:
    files = sorted({TESTS.parent / test.file for row in report.rows for test in covered[row].tests})
    if files:
        run_tests(report, everything, files, TESTS.parent)
        return
    for row in report.rows.values():
        why = "random faults do it: add --minutes" if covered[row.id].storm else row.not_run
        report.problems.append(f"no test runs {row.id}: {why}")


def _storm(report: Report, minutes: float, only: frozenset[str] | None) -> None:
    report.storm_minutes = minutes
    try:
        report.storm = storm(minutes, report.seed, only)
    except StormMissing as error:
        report.problems.append(str(error))


def _listed(row: Row, coverage: Coverage) -> str:
    lines = [f"{row.id:<4} {row.expected:<2} {row.fault}"]
    lines += [f"         {test.file}::{test.test}" for test in coverage.tests]
    lines += ["         the storm of random faults"] if coverage.storm else []
    lines += [f"         not run: {row.not_run}"] if row.not_run else []
    return "\n".join(lines + ([f"         left out: {row.left_out}"] if row.left_out else []))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.fault", description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="quick variants; no test begins after nine minutes")
    size.add_argument("--minutes", type=float, help="random faults alone, for so many minutes")
    parser.add_argument("--only", type=_ids, help="ids of rows, with commas between them")
    parser.add_argument("--seed", type=int, help="of everything random; without it another one each time")
    parser.add_argument("--json", type=Path, help="write the report to this file as well")
    parser.add_argument("--list", action="store_true", help="print the rows and their tests, run nothing")
    parser.add_argument("--page", action="store_true", help="print the page of failure modes, run nothing")
    return parser


def _ids(text: str) -> list[str]:
    return [name.strip().upper() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
