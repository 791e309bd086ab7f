"""The verdict: what was looked at, and every kind of trouble counted on its own under the invariant it breaks.

verdict.clean                 nothing was found
verdict.judged                the invariants of which something was looked at: an empty look is no proof
verdict.totals                lost, doubled, reordered, torn
print(verdict), verdict.report()
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

SHOWN = 12
"""Details kept of each kind."""

INVARIANTS = {
    "I1": "no loss",
    "I2": "no duplicate",
    "I3": "order",
    "I4": "nothing undone",
    "I5": "whole transactions",
    "I6": "replay gives the tables",
    "I7": "readers agree",
    "I8": "checkpoints",
    "I9": "confirmed is durable",
    "I10": "only aborted is hidden",
    "I11": "nothing left open",
    "I12": "resources",
    "I13": "no secret told",
    "I14": "honest status",
}

KINDS = {
    "lost": ("I1", "a committed version that no record shows"),
    "doubled": ("I2", "a version shown more than once"),
    "position": ("I2", "a position header that belongs to another event, or to another transaction as well"),
    "reordered": (
        "I3",
        "a version that stands after a later one of its key, a key in two partitions, or a partition in which the "
        "source's commits run backwards",
    ),
    "unexpected": ("I4", "an event of a rolled back transaction or savepoint, or of nothing the writers did"),
    "unreadable": ("I4", "a record that is no Debezium event of the tables"),
    "torn": ("I5", "a source transaction of which a reader sees a part only, or that two Kafka transactions share"),
    "epochs": ("I5", "a Kafka transaction written by more than one producer epoch"),
    "tombstones": ("I5", "a delete without its tombstone right behind it, or a tombstone without its delete"),
    "replayed": ("I6", "a row that the events, played in order, do not leave as it is in the table"),
    "money": ("I6", "a transaction after which there is more or less money than before"),
    "readers": ("I7", "a record that one reader saw and another did not, or saw otherwise"),
    "checkpoint": ("I8", "a checkpoint that falls, or does not cover exactly the events of its Kafka transaction"),
    "ahead": ("I9", "a position confirmed to PostgreSQL before a checkpoint that covers it was committed"),
    "hidden": ("I10", "a committed record that committed readers do not see, or an aborted one that they see"),
    "open": ("I11", "a partition that committed readers cannot read to its end, or a transaction never ended"),
    "resources": ("I12", "threads, descriptors, memory or WAL that were not given back"),
    "secret": ("I13", "a password in a log or an answer"),
    "dishonest": ("I14", "a fault that status, exit code or log do not name"),
}
"""Each kind of trouble: its invariant, and what it means."""

TOTALS = {
    "lost": ("lost",),
    "doubled": ("doubled", "position"),
    "reordered": ("reordered",),
    "torn": ("torn", "epochs"),
}


@dataclass
class Verdict:
    """Counts of every kind of trouble, and a few words on the first of each."""

    events: int = 0
    """Records with a value."""
    tombstones: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)
    looked: Counter[str] = field(default_factory=Counter)
    """Per invariant: versions, events, transactions, records, samples or whatever else it is about."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Measured beside it; JSON values."""

    @property
    def clean(self) -> bool:
        """Whether no trouble was found in what was looked at."""
        return not self.troubles

    @property
    def judged(self) -> set[str]:
        """The invariants of which something was looked at."""
        return {name for name, count in self.looked.items() if count}

    @property
    def broken(self) -> set[str]:
        """The invariants that do not hold."""
        return {KINDS[kind][0] for kind in self.troubles}

    @property
    def totals(self) -> dict[str, int]:
        """What was lost, doubled, reordered and torn."""
        return {name: sum(self.troubles[kind] for kind in kinds) for name, kinds in TOTALS.items()}

    def look(self, invariant: str, count: int = 1) -> None:
        """So many more things were looked at."""
        self.looked[invariant] += count

    def add(self, kind: str, what: object, count: int = 1) -> None:
        """Count a trouble. Raises KeyError when there is no such kind."""
        assert KINDS[kind]
        if count > 0:
            self.troubles[kind] += count
            if sum(detail.startswith(f"{kind}:") for detail in self.details) < SHOWN:
                self.details.append(f"{kind}: {what}")

    def report(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "clean": self.clean,
            "events": self.events,
            "tombstones": self.tombstones,
            "totals": self.totals,
            "invariants": {name: self._count(name) for name in INVARIANTS if self.looked[name] or name in self.broken},
            "troubles": dict(self.troubles),
            "details": self.details,
            "figures": self.figures,
        }

    def table(self) -> str:
        """One line for each invariant, and the figures."""
        lines = []
        for name, meaning in INVARIANTS.items():
            count = self._count(name)
            said = f"{count['looked_at']:>9} looked at, {count['broken']} broken"
            lines.append(f"{name:<4} {meaning:<24} {said if name in self.judged else '        -'}")
        return "\n".join([*lines, *(f"     {name}: {value}" for name, value in self.figures.items())])

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.totals.items())
        others = [f"{kind} {count}" for kind, count in self.troubles.items() if kind not in TOTALS]
        return "\n".join(
            [f"{self.events} events, {self.tombstones} tombstones: {', '.join([counts, *others])}", *self.details]
        )

    def _count(self, invariant: str) -> dict[str, int]:
        broken = sum(count for kind, count in self.troubles.items() if KINDS[kind][0] == invariant)
        return {"looked_at": self.looked[invariant], "broken": broken}
