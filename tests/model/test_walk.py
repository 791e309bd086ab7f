"""Random walks through the model: histories, pipelines and faults that no list has."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fault.sizes import FULL
from tests.model.walk import Walk

WALKS = 2000 if FULL else 40


def test_no_walk_breaks_an_invariant_or_gets_stuck() -> None:
    """Guards against rules that only hold for the few histories and short runs which can be explored exhaustively."""
    run_state_machine_as_test(Walk, settings=settings(max_examples=WALKS))
