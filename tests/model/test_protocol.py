"""Every run of the model holds; at full size the deep ones, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL
from tests.model.explore import explore
from tests.model.protocol import Model
from tests.model.runs import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable

CHOSEN = [name for name, run in RUNS.items() if FULL or not run.deep]


@pytest.mark.parametrize("name", CHOSEN)
def test_the_protocol_holds(name: str, record_property: Callable[[str, object], None]) -> None:
    """Guards against a rule that loses, doubles, reorders or tears at some moment nobody has thought of."""
    verdict = explore(Model(RUNS[name].setup))
    record_property("states", verdict.states)
    assert not verdict.problem, f"{verdict.problem}\n" + "\n".join(verdict.trace)
