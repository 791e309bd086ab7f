"""One process that lives through faults of every kind, and gives back what it took from the system.

    python -m tests.nemesis --soak --minutes 60 --seed 7

The faults are those of the storm that leave the process alive. Its memory, threads and descriptors are looked at
before the first fault, all along, and when everything is mended and idle again; then the ledger judges it all at once.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ledger.footprint import footprint, judge_footprints, judge_secrets, said_by
from tests.nemesis.schedule import steps
from tests.nemesis.stage import Servers, Stage, Trouble
from tests.nemesis.storm import FAULTS, Outcome, strike, verdict_of
from tests.support.beside import Beside
from tests.support.outage import resources

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ledger.footprint import Footprint
    from tests.ledger.verdict import Verdict
    from tests.support.process import Deltaforge

FROZEN = "P23"
SURVIVED = tuple(fault for fault in FAULTS if fault.kind != "process" or fault.row == FROZEN)
"""Whatever does not end the process."""
GROWTH = 1.25
"""Memory at the end, of what it was once every kind of fault had struck once: more is a leak."""
_LOOK_S, _REST_S = 10.0, 75.0


class _Slow(Stage):
    """An hour of events has to be judged in one piece."""

    rows_per_s = 150.0


class Memory(Beside):
    """The resident memory of one process, every ten seconds."""

    def __init__(self, product: Deltaforge) -> None:
        """Nothing is looked at before the `with` block."""
        super().__init__()
        self._product = product
        self.mib: list[float] = []

    def work(self) -> None:
        """Until the end of the block."""
        while not self.stop.wait(_LOOK_S):
            # A process that has died is told by its end.
            with contextlib.suppress(OSError):
                self.mib.append(resources(self._product).rss / 2**20)

    def quarters(self) -> list[float]:
        """The median of each quarter of the time, MiB."""
        size = max(len(self.mib) // 4, 1)
        return [
            round(statistics.median(self.mib[at : at + size]), 1) for at in range(0, 4 * size, size) if self.mib[at:]
        ]


def run(
    minutes: float, seed: int, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
) -> Outcome:
    """Soak for so long, then judge."""
    outcome = Outcome(seed, rounds=1)
    with Servers() as there, tempfile.TemporaryDirectory(prefix="deltaforge-soak-") as folder:
        try:
            with _Slow(there, f"soak-{seed}-{int(time.time())}", seed, Path(folder)) as stage:
                trouble = _soak(stage, outcome, minutes, say)
        except Trouble as found:
            outcome.totals["trouble"] += 1
            trouble = str(found)
    if trouble:
        outcome.troubles.append(
            f"{trouble}\nrun it again: python -m tests.nemesis --soak --minutes {minutes:g} --seed {seed}"
        )
    return outcome


def _soak(stage: Stage, outcome: Outcome, minutes: float, say: Callable[[str], None]) -> str:
    stage.recover()
    born, until = stage.product.pid, time.monotonic() + minutes * 60
    before, warm = _held(stage), None
    with Memory(stage.product) as memory:
        for step in steps(f"soak/{outcome.seed}", SURVIVED):
            if time.monotonic() > until:
                break
            say(f"{step}  {resources(stage.product)}")
            strike(stage, step)
            outcome.struck(step)
            if warm is None and step.number >= len(SURVIVED):
                warm = _at_rest(stage)
        stage.mend()
        stage.recover()
        outcome.recovered_s += stage.recovered_s
        idle = _Idle(stage)
        verdict = verdict_of(stage, outcome, idle.look)
    _judge(verdict, (before, warm or before, idle.held[0]), alive=idle.pid == born)
    judge_secrets(idle.said, verdict)
    outcome.figures = {"memory by quarter, MiB": memory.quarters(), **verdict.figures}
    return "" if verdict.clean else str(verdict)


@dataclass
class _Idle:
    """What there is to see when all is delivered and the process still runs."""

    stage: Stage
    held: list[Footprint] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    pid: int = 0

    def look(self) -> None:
        """Once."""
        self.pid = self.stage.product.pid
        self.held.append(_at_rest(self.stage))
        self.said |= said_by(self.stage.product, self.stage.name)


def _at_rest(stage: Stage) -> Footprint:
    """What it holds without faults, once it has had the time to give back the rest, which it does once a minute."""
    time.sleep(_REST_S)
    return _held(stage)


def _held(stage: Stage) -> Footprint:
    return footprint(stage.product, stage.database.dsn(), stage.subject.slot)


def _judge(verdict: Verdict, held: tuple[Footprint, Footprint, Footprint], *, alive: bool) -> None:
    before, warm, after = held
    judge_footprints(before, after, verdict)
    if after.rss > GROWTH * warm.rss:
        verdict.add("resources", f"memory: {warm.rss} when every fault had struck once, {after.rss} at the end")
    if not alive:
        verdict.add("resources", "the process is not the one that it was")
