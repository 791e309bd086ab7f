"""Specifications that cannot work are refused where they are written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from actors import (
    IMMEDIATE,
    INFINITY,
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    SpecError,
    Supervisor,
    SupervisorSpec,
)

if TYPE_CHECKING:
    from actors import ActorContext

TEMPORARY = Restart.TEMPORARY


async def actor(ctx: ActorContext) -> None:
    await ctx.stopping.wait()


@pytest.mark.parametrize(
    "values",
    [
        {"id": ""},
        {"id": "a/b"},
        {"run": None},
        {"shutdown_s": -1},
        {"shutdown_s": math.nan},
        {"sibling_shutdown_s": -1},
        {"start_within_s": 0},
        {"stall_after_s": 0},
        {"significant": True},
    ],
)
def test_a_child_that_cannot_work_is_refused(values: dict[str, Any]) -> None:
    """Guards against mistakes that would show at the first crash, at night."""
    with pytest.raises(SpecError):
        ChildSpec(**{"id": "a", "run": actor, **values})


@pytest.mark.parametrize(
    "values",
    [{"base_s": -1}, {"base_s": math.inf}, {"base_s": 9}, {"cap_s": math.inf}, {"reset_after_s": -1}],
)
def test_a_backoff_that_cannot_work_is_refused(values: dict[str, float]) -> None:
    """Guards against a wait that never ends or never grows."""
    with pytest.raises(SpecError):
        Backoff(**values)


@pytest.mark.parametrize(
    "values", [{"intensity": -1}, {"period_s": 0}, {"period_s": math.inf}, {"max_consecutive": -1}]
)
def test_limits_that_cannot_work_are_refused(values: dict[str, Any]) -> None:
    """Guards against limits that no failure could ever meet."""
    with pytest.raises(SpecError):
        SupervisorSpec(**values)


def test_an_id_is_unique_among_siblings() -> None:
    """Guards against two children that share one place in the statistics."""
    with pytest.raises(SpecError, match="used twice"):
        Supervisor("s", SupervisorSpec(), [ChildSpec("a", actor), ChildSpec("a", actor)])


def test_a_significant_child_needs_a_supervisor_that_listens() -> None:
    """Guards against an auto-shutdown that never comes."""
    child = ChildSpec("a", actor, restart=TEMPORARY, significant=True)
    with pytest.raises(SpecError, match="auto_shutdown"):
        Supervisor("s", SupervisorSpec(), [child])
    Supervisor("s", SupervisorSpec(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT), [child])


def test_a_backoff_that_could_hide_a_crash_loop_is_refused() -> None:
    """Guards against five failures ten seconds apart that a window of thirty seconds never sees."""
    slow = Backoff(base_s=10.0, cap_s=10.0)
    spec = SupervisorSpec(intensity=5, period_s=30.0)
    with pytest.raises(SpecError, match="5 backoffs may take 50 s"):
        Supervisor("s", spec, [ChildSpec("a", actor, backoff=slow)])
    Supervisor("s", spec, [ChildSpec("a", actor, backoff=slow, restart=TEMPORARY)])
    Supervisor("s", SupervisorSpec(intensity=None), [ChildSpec("a", actor, backoff=slow)])


def test_the_shutdown_budget_is_the_sum_of_all_graces() -> None:
    """Guards against a process watchdog that fires in the middle of an orderly stop."""
    inner = Supervisor("in", SupervisorSpec(), [ChildSpec("a", actor), ChildSpec("b", actor, shutdown_s=2.0)])
    quick = Supervisor("quick", SupervisorSpec(), [ChildSpec("a", actor)])
    outer = Supervisor(
        "out",
        SupervisorSpec(),
        [inner.child_spec(), quick.child_spec(shutdown_s=1.0), ChildSpec("c", actor, shutdown_s=IMMEDIATE)],
    )
    assert outer.shutdown_budget_s == 8.0
    assert Supervisor("s", SupervisorSpec(), [ChildSpec("a", actor, shutdown_s=INFINITY)]).shutdown_budget_s == INFINITY
