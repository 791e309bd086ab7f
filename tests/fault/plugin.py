"""A pytest plugin that runs the tests of some rows and keeps, for each, what came of it.

Figures come from `record_property(name, value)`; the name `verdict` is for what was lost, doubled, reordered and torn.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.fault.matrix import MatrixError

if TYPE_CHECKING:
    from collections.abc import Collection

_ERROR_LINES = 40


@dataclass
class TestRun:
    """One test as it ran."""

    __test__ = False

    name: str
    """pytest's node id."""
    rows: tuple[str, ...]
    began_s: float = 0.0
    """Since the run began."""
    seconds: float = 0.0
    """Fixtures included."""
    outcome: str = "not begun"
    """passed, failed, skipped, left out (the time was over), or not begun."""
    figures: dict[str, Any] = field(default_factory=dict)
    said: str = ""
    """The end of the error, or why it was skipped."""

    def report(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        said = {"said": self.said} if self.said else {}
        figures = {"figures": self.figures} if self.figures else {}
        timed = {"began_s": round(self.began_s, 1), "seconds": round(self.seconds, 1)}
        return {"test": self.name, "rows": list(self.rows), "outcome": self.outcome, **timed, **figures, **said}


class RowPlugin:
    """Give it to `pytest.main`; `runs` has every test that was chosen, in the order they ran."""

    def __init__(self, known: Collection[str], wanted: Collection[str], last_start_s: float | None = None) -> None:
        """Run the tests that are marked with a wanted row; begin none later than `last_start_s`."""
        self._known, self._wanted, self._last_start_s = frozenset(known), frozenset(wanted), last_start_s
        self._began = time.monotonic()
        self.runs: dict[str, TestRun] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep what is wanted; with a time limit, in an order in which all rows soon had a test."""
        rows = {item: self._rows(item) for item in items}
        kept = [item for item in items if self._wanted.intersection(rows[item])]
        if self._last_start_s is not None:
            kept = _soonest(kept, rows)
        chosen = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = kept
        self.runs = {item.nodeid: TestRun(item.nodeid, rows[item]) for item in kept}

    def _rows(self, item: pytest.Item) -> tuple[str, ...]:
        ids = tuple(dict.fromkeys(row for mark in item.iter_markers("fault") for row in mark.args))
        if unknown := [row for row in ids if row not in self._known]:
            raise pytest.UsageError(str(MatrixError(f"{item.nodeid} is marked with {unknown[0]}, which no row is")))
        return ids

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out what would begin too late."""
        run = self.runs[item.nodeid]
        run.began_s = time.monotonic() - self._began
        if self._last_start_s is not None and run.began_s > self._last_start_s:
            run.outcome = "left out"
            pytest.skip("the time is over")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take over what a phase of a test came to; the worst of its phases counts."""
        run = self.runs[report.nodeid]
        run.seconds += report.duration
        run.figures |= dict(report.user_properties)
        if report.failed:
            run.outcome = "failed"
            run.said = "\n".join([run.said, *report.longreprtext.splitlines()[-_ERROR_LINES:]]).strip()
        elif report.skipped and run.outcome != "left out":
            run.outcome, run.said = "skipped", _reason(report)
        elif report.when == "call" and run.outcome == "not begun":
            run.outcome = "passed"

    @property
    def totals(self) -> Counter[str]:
        """What all verdicts together counted as lost, doubled, reordered and torn."""
        found: Counter[str] = Counter()
        for run in self.runs.values():
            found.update(run.figures.get("verdict", {}))
        return found


def _soonest(items: list[pytest.Item], rows: dict[pytest.Item, tuple[str, ...]]) -> list[pytest.Item]:
    """File by file, since tests of a file share servers: quick ones first, then whichever adds the most rows."""
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    slow = {name for name, some in files.items() if any(item.get_closest_marker("slow") for item in some)}
    ordered, covered = [name for name in files if name not in slow], set[str]()
    left = [name for name in files if name in slow]

    def adds(name: str) -> int:
        return len({row for item in files[name] for row in rows[item]} - covered)

    for name in ordered:
        covered |= {row for item in files[name] for row in rows[item]}
    while left:
        best = max(left, key=adds)
        left.remove(best)
        ordered.append(best)
        covered |= {row for item in files[best] for row in rows[item]}
    return [item for name in ordered for item in files[name]]


def _reason(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else report.longreprtext
