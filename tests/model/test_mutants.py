"""Every mutant is found, by the invariant that its rule is there for."""

from __future__ import annotations

import pytest

from tests.fault.sizes import FULL
from tests.model.mutants import MUTANTS

CHOSEN = [name for name, mutant in MUTANTS.items() if FULL or not mutant.deep]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_missing_rule_is_noticed(name: str) -> None:
    """Guards against a model that would pass whatever the protocol, or the product's function, leaves out."""
    mutant = MUTANTS[name]
    verdict = mutant.explore()
    assert verdict.invariant == mutant.caught_by, verdict.problem or f"not found in {verdict.states} states"
