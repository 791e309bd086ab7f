"""The planted bugs fit the product as it is. That each is caught is shown by `python -m tests.mutants`."""

from __future__ import annotations

import py_compile
from typing import TYPE_CHECKING

import pytest

from tests.ledger.verdict import INVARIANTS
from tests.mutants import hunts
from tests.mutants.planted import MUTANTS, Edit, Mutant
from tests.mutants.tree import plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_bug_can_be_planted(mutant: Mutant, tmp_path: Path) -> None:
    """Guards against mutants that the product has outgrown: a hunt for nothing."""
    made = plant(mutant, tmp_path / "source")
    for edit in mutant.edits:
        py_compile.compile(str(made / edit.path), doraise=True)
    assert mutant.invariant in INVARIANTS
    assert callable(getattr(hunts, mutant.hunt))


def test_a_text_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Guards against a mutant that changes nothing and is said to be caught by chance."""
    gone = Mutant("gone", "", "I1", "calm", (Edit("deltaforge/position.py", "no such text", ""),))
    with pytest.raises(ValueError, match="0 times"):
        plant(gone, tmp_path / "source")
