"""What a run came to, told by row: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.fault.matrix import EXPECTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.fault.matrix import Row
    from tests.fault.plugin import TestRun
    from tests.fault.storm import Outcome

TOTALS: Final = ("lost", "doubled", "reordered", "torn")
_WORST: Final = ("failed", "not begun", "left out", "skipped", "passed")
_WIDTH = 60


@dataclass
class Report:
    """One run of the rig."""

    mode: str
    """quick, full, or storm."""
    seed: int
    started: str
    """RFC 3339."""
    versions: Mapping[str, str]
    rows: Mapping[str, Row]
    runs: Sequence[TestRun] = ()
    totals: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    storm: Outcome | None = None
    storm_minutes: float = 0.0
    problems: list[str] = field(default_factory=list)
    """What kept the rig itself from working."""

    @property
    def failed(self) -> list[TestRun]:
        """The tests that failed."""
        return [run for run in self.runs if run.outcome == "failed"]

    @property
    def clean(self) -> bool:
        """No test failed, and nothing was lost, doubled, reordered or torn."""
        return not self.failed and not any(self.all_totals.values()) and (self.storm is None or self.storm.clean)

    @property
    def all_totals(self) -> dict[str, int]:
        """What tests and storm together counted."""
        found = Counter({name: self.totals[name] for name in TOTALS})
        if self.storm is not None:
            found.update({name: int(self.storm.report().get("totals", {}).get(name, 0)) for name in TOTALS})
        return dict(found) if found else dict.fromkeys(TOTALS, 0)

    def stormed(self, row: str) -> int:
        """How often the storm did a row's faults."""
        return int(self.storm.report().get("faults", {}).get(row, 0)) if self.storm is not None else 0

    def outcome(self, row: str) -> str:
        """Of a row: the worst of its tests; without any, `stormed` or `not run`."""
        found = [run.outcome for run in self.runs if row in run.rows]
        return min(found, key=_WORST.index) if found else "stormed" if self.stormed(row) else "not run"

    def replay(self, run: TestRun) -> str:
        """The command that runs one test again as it was."""
        return f"DELTAFORGE_RIG={self.mode} DELTAFORGE_SEED={self.seed} python -m pytest '{run.name}'"

    # ---- for people

    def table(self) -> str:
        """Every row on a line, then what failed with the command that runs it again, then the totals."""
        lines = [f"{self.mode}, seed {self.seed}, {self.seconds:.0f} s", self._versions(), ""]
        lines += [self._line(row) for row in self.rows.values()] if self.runs or self.storm else []
        lines += [f"\nfailed: {run.name}\n{run.said}\nagain: {self.replay(run)}" for run in self.failed]
        if self.storm is not None:
            lines += ["", f"storm of {self.storm_minutes:g} minutes, seed {self.seed}", str(self.storm)]
            if not self.storm.clean:
                lines.append(f"again: python -m tests.fault --minutes {self.storm_minutes:g} --seed {self.seed}")
        lines += ["", ", ".join(f"{name} {count}" for name, count in self.all_totals.items())]
        return "\n".join([*lines, self._verdict(), *self.problems])

    def _versions(self) -> str:
        return ", ".join(f"{name} {number}" for name, number in self.versions.items() if number)

    def _line(self, row: Row) -> str:
        runs = [run for run in self.runs if row.id in run.rows]
        seconds, outcome = sum(run.seconds for run in runs), self.outcome(row.id)
        count = f"{len(runs):>3} tests {seconds:>5.0f} s" if runs else " " * 17
        storm = f"{times:>4} times" if (times := self.stormed(row.id)) else " " * 10
        text = row.fault if len(row.fault) <= _WIDTH else row.fault[: _WIDTH - 3] + "..."
        why = f" ({row.not_run or 'random faults do it'})" if outcome == "not run" else ""
        return f"{row.id:<4} {row.expected:<2} {outcome:<9} {count} {storm}  {text}{why}"

    def _verdict(self) -> str:
        counts = Counter(map(self.outcome, self.rows)) if self.runs or self.storm else Counter[str]()
        rows = ", ".join(f"{outcome} {count}" for outcome, count in counts.most_common())
        return f"verdict: {'clean' if self.clean else 'FAILED'}" + (f"; rows: {rows}" if rows else "")

    # ---- for programs

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "mode": self.mode,
            "seed": self.seed,
            "started": self.started,
            "seconds": round(self.seconds, 1),
            "versions": dict(self.versions),
            "clean": self.clean,
            "totals": self.all_totals,
            "rows": {row.id: self._row(row) for row in self.rows.values()},
            "tests": [run.report() | {"again": self.replay(run)} for run in self.runs],
            "timeline": self._timeline(),
            "storm": {"minutes": self.storm_minutes, **self.storm.report()} if self.storm is not None else None,
            "problems": self.problems,
        }

    def write(self, file: Path) -> None:
        """Write the JSON. Raises OSError."""
        file.write_text(json.dumps(self.as_json(), indent=2, default=str) + "\n")

    def _row(self, row: Row) -> dict[str, Any]:
        runs = [run for run in self.runs if row.id in run.rows]
        return {
            "fault": row.fault,
            "expected": EXPECTED[row.expected],
            "outcome": self.outcome(row.id),
            "seconds": round(sum(run.seconds for run in runs), 1),
            "tests": [run.name for run in runs],
            "stormed": self.stormed(row.id),
            "left_out": row.left_out,
            "not_run": row.not_run,
        }

    def _timeline(self) -> list[dict[str, Any]]:
        begun = [run for run in self.runs if run.outcome not in ("not begun", "left out")]
        moments = [(run.began_s, "begins", run) for run in begun]
        moments += [(run.began_s + run.seconds, run.outcome, run) for run in begun]
        return [{"at_s": round(at, 1), "what": what, "test": run.name} for at, what, run in sorted(moments, key=_at)]


def _at(moment: tuple[float, str, TestRun]) -> float:
    return moment[0]
