"""The rig itself: which tests it runs, and what it tells of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.fault import storm as hook
from tests.fault.__main__ import CLEAN, UNABLE, main
from tests.fault.matrix import load
from tests.fault.plugin import TestRun
from tests.fault.report import Report
from tests.fault.storm import StormMissing, storm
from tests.support.pages import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ROWS = load()
RUN = """
import sys
from pathlib import Path
from tests.fault import run
from tests.fault.matrix import chosen, load
from tests.fault.report import Report

folder, rows, run.LAST_START_S = Path(sys.argv[1]), sys.argv[2].split(","), float(sys.argv[3])
report = Report("quick", 42, "2026-01-01T00:00:00+00:00", {"python": "3"}, chosen(load(), rows))
run.run_tests(report, load(), sorted(folder.glob("test_*.py")), folder)
print(report.table())
report.write(folder / "report.json")
"""
TESTS = """
import os
import pytest

@pytest.mark.fault("P4", "P5")
def test_good(record_property):
    record_property("kills", 3)
    record_property("verdict", {"lost": 0, "doubled": 0})

@pytest.mark.fault("P5")
@pytest.mark.parametrize("n", [1, 2])
def test_bad(n, record_property):
    record_property("verdict", {"lost": n - 1})
    assert n == 1, f"seed {os.environ['DELTAFORGE_SEED']}, {os.environ['DELTAFORGE_RIG']}"

@pytest.mark.fault("K1")
def test_another_row():
    raise AssertionError

@pytest.mark.fault("P4")
def test_skipped():
    pytest.skip("no server here")

def test_unmarked():
    raise AssertionError
"""


def _rig(
    folder: Path, rows: str, files: Mapping[str, str] | None = None, *, last_start_s: float = 60.0
) -> tuple[str, dict[str, Any]]:
    """What a run of the rig over these files of tests prints, and its JSON."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = fault(row, ...): rows\n  slow: long\n")
    for name, tests in (files or {"test_some": TESTS}).items():
        (folder / f"{name}.py").write_text(tests)
    # Coverage and the like of the run we are in are not for the run we start.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    command = [sys.executable, "-c", RUN, str(folder), rows, str(last_start_s)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """A run of two rows of the tests above."""
    return _rig(tmp_path_factory.mktemp("rig"), "P4,P5")


def test_a_failing_test_is_told_by_row_with_seed_and_command(ran: tuple[str, dict[str, Any]]) -> None:
    """Guards against a rig that says FAILED and leaves the reader to find out what, with which dice."""
    printed, report = ran

    outcomes = {test["test"]: test["outcome"] for test in report["tests"]}
    assert outcomes == {
        "test_some.py::test_good": "passed",
        "test_some.py::test_bad[1]": "passed",
        "test_some.py::test_bad[2]": "failed",
        "test_some.py::test_skipped": "skipped",
    }
    assert {name: row["outcome"] for name, row in report["rows"].items()} == {"P4": "skipped", "P5": "failed"}
    again = "DELTAFORGE_RIG=quick DELTAFORGE_SEED=42 python -m pytest 'test_some.py::test_bad[2]'"
    assert f"again: {again}" in printed
    assert "seed 42, quick" in printed
    assert "verdict: FAILED" in printed
    bad = report["tests"][2]
    assert bad["again"] == again
    assert "seed 42, quick" in bad["said"]
    assert report["tests"][3]["said"].endswith("no server here")


def test_the_report_has_figures_totals_versions_and_a_time_line(ran: tuple[str, dict[str, Any]]) -> None:
    """Guards against a verdict that cannot be compared with another day's, and a loss that no total shows."""
    printed, report = ran

    assert (report["seed"], report["versions"], report["clean"]) == (42, {"python": "3"}, False)
    assert report["totals"] == {"lost": 1, "doubled": 0, "reordered": 0, "torn": 0}
    assert "lost 1, doubled 0, reordered 0, torn 0" in printed
    assert report["tests"][0]["figures"] == {"kills": 3, "verdict": {"lost": 0, "doubled": 0}}
    assert [moment["what"] for moment in report["timeline"]][:2] == ["begins", "passed"]
    assert sorted(moment["at_s"] for moment in report["timeline"]) == [moment["at_s"] for moment in report["timeline"]]


def test_when_the_time_is_over_the_rest_is_left_out_and_not_called_good(tmp_path: Path) -> None:
    """Guards against a quick run that takes an hour, and against one that calls clean what it never ran."""
    _, report = _rig(tmp_path, "P4,P5", last_start_s=-1.0)

    assert {test["outcome"] for test in report["tests"]} == {"left out"}
    assert {row["outcome"] for row in report["rows"].values()} == {"left out"}


def test_quick_tests_come_first_and_then_those_that_add_most_rows(tmp_path: Path) -> None:
    """Guards against ten minutes spent on one row."""
    slow = (
        "import pytest\npytestmark = [pytest.mark.slow, pytest.mark.fault({})]\ndef test_x(): ...\ndef test_y(): ...\n"
    )
    files = {
        "test_a": slow.format('"P4"'),
        "test_b": slow.format('"P4", "P5"'),
        "test_c": slow.format('"P6", "P7", "P8"'),
        "test_d": slow.format('"P4"').replace("pytest.mark.slow, ", ""),
    }
    _, report = _rig(tmp_path, "P4,P5,P6,P7,P8", files)
    ran = [test["test"] for test in report["tests"]]
    assert ran == [f"test_{name}.py::test_{each}" for name in "dcba" for each in "xy"]


def test_a_mark_of_an_unknown_row_stops_the_run(tmp_path: Path) -> None:
    """Guards against a misspelt mark whose test is silently left out."""
    tests = 'import pytest\n\n@pytest.mark.fault("P99")\ndef test_a(): ...\n'
    _, report = _rig(tmp_path, "P4", {"test_some": tests})
    assert report["problems"] == ["pytest ended with USAGE_ERROR"]


def test_an_unknown_id_on_the_command_line_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against `--only K33` that runs nothing and ends well."""
    assert main(["--only", "K33"]) == UNABLE
    assert "no row K33; there are P1, P2," in capsys.readouterr().err


def test_rows_are_listed_with_their_tests(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against a matrix that nobody can look through."""
    assert main(["--list", "--only", "p15,P18"]) == CLEAN
    printed = capsys.readouterr().out
    assert "not run: deltaforge does not copy existing rows yet" in printed
    assert "tests/fault/test_failpoints.py::test_a_kill_inside_a_split_transaction_loses_and_doubles_nothing" in printed


def test_rows_without_a_test_end_with_2_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards against success of a run in which nothing ran."""
    assert main(["--quick", "--only", "P15"]) == UNABLE
    assert "no test runs P15: deltaforge does not copy existing rows yet" in capsys.readouterr().out


@dataclass
class Stormed:
    """A storm that has passed."""

    clean: bool
    totals: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """As the real one's."""
        return {"seed": 7, "faults": {"P21": 3}, "totals": dict(self.totals)}


def _report(*runs: TestRun, stormed: Stormed | None = None) -> Report:
    found = Report("full", 7, "", {}, {"P21": ROWS["P21"]}, list(runs))
    found.storm, found.storm_minutes = stormed, 2.0
    return found


@pytest.mark.parametrize(
    ("outcome", "totals", "stormed", "clean"),
    [
        ("passed", {}, None, True),
        ("passed", {}, Stormed(clean=True), True),
        ("failed", {}, None, False),
        ("passed", {"torn": 1}, None, False),
        ("passed", {}, Stormed(clean=False), False),
        ("passed", {}, Stormed(clean=True, totals=Counter(doubled=1)), False),
    ],
)
def test_a_run_is_clean_only_when_nothing_at_all_was_wrong(
    outcome: str, totals: dict[str, int], stormed: Stormed | None, clean: bool
) -> None:
    """Guards against an exit code of 0 for a loss that no test turned into a failure."""
    report = _report(TestRun("test_a.py::test_a", ("P21",), outcome=outcome), stormed=stormed)
    report.totals.update(totals)
    assert report.clean is clean
    assert f"verdict: {'clean' if clean else 'FAILED'}" in report.table()


def test_a_storm_that_failed_is_told_with_the_command_that_runs_it_again() -> None:
    """Guards against random faults that nobody can repeat."""
    report = _report(stormed=Stormed(clean=False, totals=Counter(lost=2)))
    table = report.table()
    assert report.outcome("P21") == "stormed"
    assert "   3 times  SIGKILL at random moments" in table
    assert "again: python -m tests.fault --minutes 2 --seed 7" in table
    assert "lost 2, doubled 0, reordered 0, torn 0" in table


def test_a_storm_that_is_not_there_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against ten minutes of nothing, called clean."""
    with pytest.raises(StormMissing, match=r"no random fault belongs to P15$"):
        storm(1.0, 7, frozenset({"P15", "P21"}))
    monkeypatch.setattr(hook, "NAME", "tests.nowhere.storm")
    assert hook.storm_rows() == frozenset()
    with pytest.raises(StormMissing, match=r"there is no tests\.nowhere\.storm"):
        storm(1.0, 7, None)
