"""The schedule of a storm."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.nemesis.schedule import steps
from tests.nemesis.storm import FAULTS, chosen


def test_the_same_seed_gives_the_same_storm() -> None:
    """Guards against failures that nobody can run again."""
    first, again, other = (
        [(str(step), step.calm_s, step.recover, step.seed) for step in islice(steps(seed, FAULTS), 60)]
        for seed in ("7/1", "7/1", "7/2")
    )
    assert first == again
    assert first != other


def test_every_fault_comes_once_before_any_comes_again() -> None:
    """Guards against a storm that leaves faults out by chance."""
    first = [step.faults[0] for step in islice(steps("7", FAULTS), len(FAULTS))]
    assert len(set(first)) == len(FAULTS)


def test_faults_that_must_be_alone_are() -> None:
    """Guards against two faults that wait for each other."""
    together = [step.faults for step in islice(steps("7", FAULTS), 1000) if len(step.faults) > 1]
    assert {len(faults) for faults in together} == {2, 3}
    assert not any(fault.alone for faults in together for fault in faults)
    assert all(len({fault.kind for fault in faults}) == len(faults) for faults in together)


def test_a_row_without_a_fault_is_refused() -> None:
    """Guards against a storm of nothing that ends well."""
    assert {fault.row for fault in chosen(frozenset({"K1", "G3"}))} == {"K1", "G3"}
    with pytest.raises(KeyError, match="Z9"):
        chosen(frozenset({"K1", "Z9"}))
