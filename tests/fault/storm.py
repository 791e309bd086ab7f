"""Where the storm of random faults (`tests.nemesis`) is called from. It need not be there."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

NAME = "tests.nemesis.storm"
USUAL_MINUTES = 10.0
PAIRS = "X7"
"""The row of faults that come together."""


class Outcome(Protocol):
    """What a storm came to; its text is for people."""

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        ...

    def report(self) -> dict[str, Any]:
        """JSON values: `seed`, `faults` (done, by row), `totals` (lost, doubled, reordered, torn), and more."""
        ...


class StormMissing(Exception):
    """There is no storm in this tree, or none of its faults belongs to the rows that were asked for."""


def _module() -> Any:
    """The storm, or None."""
    try:
        return importlib.import_module(NAME)
    except ModuleNotFoundError as error:
        if error.name not in (NAME, NAME.rpartition(".")[0]):
            raise
        return None


def storm_rows() -> frozenset[str]:
    """The rows of the matrix that random faults belong to. They also come in pairs."""
    module = _module()
    return frozenset({fault.row for fault in module.FAULTS} | {PAIRS}) if module is not None else frozenset()


def storm(minutes: float, seed: int, only: frozenset[str] | None) -> Outcome:
    """Let the storm do so many minutes of faults, all from one seed; `only` these rows of the matrix.

    Raises:
      StormMissing: it cannot do what is asked.
    """
    module = _module()
    if module is None:
        raise StormMissing(f"there is no {NAME}: random faults are not available")
    if missing := sorted((only or frozenset()) - {fault.row for fault in module.FAULTS}):
        raise StormMissing(f"no random fault belongs to {', '.join(missing)}")
    return cast("Outcome", module.run(minutes=minutes, seed=seed, only=only))
