"""Run the tests of some rows with pytest, in this process, and take what came of them into a report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.fault.plugin import RowPlugin

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from tests.fault.report import Report

QUICK_S: Final = 600.0
LAST_START_S: Final = 0.9 * QUICK_S
"""A test that begins later may not end in time."""
_SPOKEN = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def run_tests(report: Report, known: Collection[str], files: Sequence[Path], root: Path) -> None:
    """Run the tests in `files` that are marked with rows of the report. `known`: every id there is.

    The rig's variables are set for good: sizes are read when the tests are imported, and replayed commands name them.
    """
    os.environ |= {"DELTAFORGE_RIG": report.mode, "DELTAFORGE_SEED": str(report.seed)}
    plugin = RowPlugin(known, report.rows, LAST_START_S if report.mode == "quick" else None)
    options = ["-v", "--tb=short", "-p", "no:cacheprovider", f"--rootdir={root}"]
    code = pytest.main([*options, *map(str, files)], plugins=[plugin])
    report.runs, report.totals = list(plugin.runs.values()), plugin.totals
    if code not in _SPOKEN:
        report.problems.append(f"pytest ended with {pytest.ExitCode(code).name}")
