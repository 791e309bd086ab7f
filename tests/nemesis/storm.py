"""Rounds of faults, each on a fresh pipeline and judged at its end.

    python -m tests.nemesis --minutes 10 --seed 7
    python -m tests.nemesis --seed 7 --round 3          # that round alone, as it was

A fault that passes must be recovered from without help: every event once and in order, an idle end, no process that
gave up. Whatever else happens is trouble, and is printed with the words that run it again.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.ledger.verdict import INVARIANTS
from tests.nemesis import network, process, servers
from tests.nemesis.schedule import Fault, Step, steps
from tests.nemesis.stage import Servers, Stage, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.ledger.verdict import Verdict

FAULTS: tuple[Fault, ...] = (*process.FAULTS, *network.FAULTS, *servers.BROKER, *servers.POSTGRES)
ROUND_S = 120.0
"""Of faults; the end of a round comes on top."""
_threads = ThreadPoolExecutor(2)
"""For the faults beside the first. They live as long as we do: what a thread has started ends with it."""


@dataclass
class Outcome:
    """What a storm came to."""

    seed: int
    rounds: int = 0
    events: int = 0
    kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """By row of the fault matrix."""
    kinds: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    """Lost, doubled, reordered, torn, and any other trouble."""
    broken: Counter[str] = field(default_factory=Counter)
    """Rounds in which an invariant did not hold."""
    looked: Counter[str] = field(default_factory=Counter)
    """By invariant: how many versions, records, samples or whatever it is about were looked at."""
    recovered_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """Of each round that was not clean: what, and how to run it again."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Measured beside it; JSON values."""

    def struck(self, step: Step) -> None:
        """Count the faults of a step."""
        self.faults.update(fault.row for fault in step.faults)
        self.kinds.update(fault.kind for fault in step.faults)

    @property
    def clean(self) -> bool:
        """Something was done, and nothing went wrong."""
        return self.rounds > 0 and not self.troubles

    def report(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "seed": self.seed,
            "rounds": self.rounds,
            "events": self.events,
            "kills": self.kills,
            "faults": dict(sorted(self.faults.items())),
            "kinds": dict(self.kinds),
            "totals": dict.fromkeys(("lost", "doubled", "reordered", "torn"), 0) | dict(self.totals),
            "invariants": {name: [self.looked[name], self.broken[name]] for name in INVARIANTS if self.looked[name]},
            "recovered_s": self._recovered(),
            **({"figures": self.figures} if self.figures else {}),
            "troubles": self.troubles,
        }

    def _recovered(self) -> dict[str, float]:
        found = sorted(self.recovered_s)
        if not found:
            return {}
        return {
            "count": len(found),
            "p50": round(statistics.median(found), 2),
            "p99": round(found[int(len(found) * 0.99)], 2),
            "worst": round(found[-1], 2),
        }

    def __str__(self) -> str:
        said = self.report()
        lines = [f"{name:<12} {said[name]}" for name in said if name != "troubles"]
        return "\n".join(
            [*lines, *(self.troubles or [f"verdict      {'clean' if self.clean else 'nothing was done'}"])]
        )


def chosen(only: frozenset[str] | None) -> Sequence[Fault]:
    """The faults of these rows of the matrix; None = all. Raises KeyError for a row that no fault has."""
    if only is None:
        return FAULTS
    if unknown := only - {fault.row for fault in FAULTS}:
        raise KeyError(", ".join(sorted(unknown)))
    return [fault for fault in FAULTS if fault.row in only]


def run(
    minutes: float,
    seed: int,
    only: frozenset[str] | None = None,
    *,
    first: int = 1,
    rounds: int | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Outcome:
    """Storm for so long, or for so many rounds.

    Args:
      only: rows of the matrix; None = everything there is.
      first: the round to begin with; rounds follow from the seed one by one.
      say: told of every fault before it strikes.

    Raises:
      KeyError: no fault belongs to one of the rows.
    """
    outcome, faults = Outcome(seed), chosen(only)
    with Servers() as there, tempfile.TemporaryDirectory(prefix="deltaforge-storm-") as folder:
        until, number = time.monotonic() + minutes * 60, first
        while (time.monotonic() < until) if rounds is None else (number < first + rounds):
            left_s = ROUND_S if rounds is not None else min(ROUND_S, until - time.monotonic())
            say(f"round {number}")
            trouble = _round(there, Path(folder), outcome, number, (faults, left_s, say))
            if trouble:
                again = f"python -m tests.nemesis --seed {seed} --round {number}"
                outcome.troubles.append(f"round {number}: {trouble}\nrun it again: {again}")
                say(outcome.troubles[-1])
            outcome.rounds += 1
            number += 1
    return outcome


def _round(
    there: Servers,
    folder: Path,
    outcome: Outcome,
    number: int,
    how: tuple[Sequence[Fault], float, Callable[[str], None]],
) -> str:
    """One pipeline from its birth to its verdict. Returns what was wrong with it, '' when nothing."""
    faults, seconds, say = how
    name = f"storm-{outcome.seed}-{number}-{int(time.time())}"
    try:
        with Stage(there, name, outcome.seed * 1000 + number, folder) as stage:
            stage.recover()
            until = time.monotonic() + seconds
            for step in steps(f"{outcome.seed}/{number}", faults):
                if time.monotonic() > until:
                    break
                say(f"  {step}")
                strike(stage, step)
                outcome.struck(step)
            stage.mend()
            stage.recover()
            outcome.kills += stage.kills
            outcome.recovered_s += stage.recovered_s
            verdict = verdict_of(stage, outcome)
            return "" if verdict.clean else str(verdict)
    except Trouble as trouble:
        there.heal()
        outcome.totals["trouble"] += 1
        return str(trouble)


def strike(stage: Stage, step: Step) -> None:
    """Do what the step says, mend it, and wait for what comes after."""
    time.sleep(step.calm_s)
    dice = [random.Random(f"{step.seed}/{number}") for number in range(len(step.faults))]
    beside = [_threads.submit(fault.act, stage, own) for fault, own in zip(step.faults[1:], dice[1:], strict=True)]
    errors: list[BaseException] = []
    try:
        step.faults[0].act(stage, dice[0])
    except Exception as error:
        errors.append(error)
    errors += [found for each in beside if (found := each.exception()) is not None]
    stage.mend()
    if errors:
        raise Trouble(f"{step}: {errors[0]!r}\n{stage.product.tail()}") from errors[0]
    if step.recover:
        stage.recover()


def verdict_of(stage: Stage, outcome: Outcome, when_idle: Callable[[], None] = lambda: None) -> Verdict:
    """Let the writers end and the pipeline drain, and judge what every reader can see.

    Args:
      when_idle: called when everything has been delivered, and the process still runs.
    """
    stage.load.stop()
    expected = stage.load.expected()
    stage.witness.settle(expected)
    when_idle()
    code = stage.product.term()
    if code != 0:
        raise Trouble(f"exit code {code} at the end:\n{stage.product.tail()}")
    verdict = stage.witness.judge(expected)
    outcome.events += verdict.events
    outcome.totals.update(verdict.totals)
    outcome.broken.update(verdict.broken)
    outcome.looked.update(verdict.looked)
    return verdict
