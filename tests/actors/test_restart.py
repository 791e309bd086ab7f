"""The restart table, row by row, and the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Action, Backoff, ChildSpec, Exit, ExitKind, Restart, RestartWindow, Strategy, decide
from actors.restart import group_of

if TYPE_CHECKING:
    from actors import ActorContext

WINDOW = RestartWindow(intensity=3, period_s=10.0)
BACKOFF = Backoff(base_s=0.5, cap_s=3.0)


async def nothing(ctx: ActorContext) -> None:
    await ctx.stopping.wait()


def child(restart: Restart) -> ChildSpec:
    return ChildSpec("c", nothing, restart=restart, backoff=BACKOFF)


# One row of the table: PERMANENT, TRANSIENT, TEMPORARY as (action, counted).
RESTART, COUNTED, DROP, ESCALATE = (
    (Action.RESTART, False),
    (Action.RESTART, True),
    (Action.DROP, False),
    (Action.ESCALATE, False),
)
TABLE = {
    ExitKind.RETURNED: (COUNTED, DROP, DROP),
    ExitKind.SHUTDOWN: (COUNTED, DROP, DROP),
    ExitKind.RETRY: (RESTART, RESTART, DROP),
    ExitKind.CRASHED: (COUNTED, COUNTED, DROP),
    ExitKind.ESCALATED: (ESCALATE, ESCALATE, DROP),
    ExitKind.STOPPED: (RESTART, RESTART, DROP),
}


def test_the_table_has_a_row_for_every_exit() -> None:
    """Guards against a new kind of exit that nobody decided about."""
    assert set(TABLE) == set(ExitKind)


@pytest.mark.parametrize("kind", list(ExitKind))
@pytest.mark.parametrize("restart", list(Restart))
def test_every_cell_of_the_table_is_obeyed(kind: ExitKind, restart: Restart) -> None:
    """Guards against a restart that nobody asked for, and one that never comes."""
    decision = decide(Exit(kind, delay_s=7.0), child(restart), WINDOW, 100.0)
    action, counted = TABLE[kind][list(Restart).index(restart)]
    assert (decision.action, decision.counted) == (action, counted)
    assert decision.window.stamps == ((100.0,) if counted else ())
    assert decision.delay_s == (7.0 if kind is ExitKind.RETRY and action is Action.RESTART else 0.0)
    assert decision.jitter_s == (0.5 if counted else 0.0)


def test_one_restart_more_than_the_intensity_within_the_period_escalates() -> None:
    """Guards against an off-by-one: intensity 3 allows three restarts, the fourth failure escalates."""
    window = WINDOW
    actions = []
    for now in (0.0, 1.0, 2.0, 3.0):
        decision = decide(Exit(ExitKind.CRASHED), child(Restart.PERMANENT), window, now)
        window = decision.window
        actions.append(decision.action)
    assert actions == [Action.RESTART] * 3 + [Action.ESCALATE]
    assert decision.limit == "failed 4 times within 10 s, 3 allowed"


def test_intensity_zero_escalates_on_the_first_failure() -> None:
    """Guards against a supervisor that may never restart and does so once."""
    none = RestartWindow(0, 5.0)
    assert decide(Exit(ExitKind.CRASHED), child(Restart.PERMANENT), none, 0.0).action is Action.ESCALATE


def test_stamps_leave_the_window_only_when_older_than_the_period() -> None:
    """Guards against forgetting a stamp that is exactly one period old."""
    window = RestartWindow(1, 10.0).add(0.0)
    assert window.add(10.0).exceeded
    assert not window.add(10.1).exceeded


def test_without_a_limit_nothing_is_remembered_and_nothing_escalates() -> None:
    """Guards against memory that grows with every restart of a supervisor that never gives up."""
    window = RestartWindow(None, 5.0)
    for now in range(50):
        decision = decide(Exit(ExitKind.CRASHED), child(Restart.PERMANENT), window, float(now))
        assert decision.action is Action.RESTART
        window = decision.window
    assert window.stamps == ()


def test_failures_in_a_row_escalate_even_when_the_window_does_not_see_them() -> None:
    """Guards against a slow crash loop that a long backoff hides from the window."""
    window = RestartWindow(1, 10.0, max_consecutive=2)
    for failures, action in ((0, Action.RESTART), (1, Action.RESTART), (2, Action.ESCALATE)):
        decision = decide(Exit(ExitKind.CRASHED), child(Restart.TRANSIENT), window, 1e6 * failures, failures=failures)
        assert decision.action is action
    assert decision.limit == "failed 3 times in a row, 2 allowed"


def test_the_backoff_doubles_up_to_its_cap() -> None:
    """Guards against a backoff that overflows or never grows."""
    assert [BACKOFF.bound_s(n) for n in (0, 1, 2, 3, 4, 10_000)] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("strategy", "group"),
    [(Strategy.ONE_FOR_ONE, "b"), (Strategy.REST_FOR_ONE, "bc"), (Strategy.ONE_FOR_ALL, "abc")],
)
def test_the_group_of_a_failed_child_follows_the_strategy(strategy: Strategy, group: str) -> None:
    """Guards against restarting too many or too few."""
    assert list(group_of(strategy, ["a", "b", "c"], "b")) == list(group)


@given(st.lists(st.floats(0, 100), max_size=40), st.integers(0, 10), st.floats(0.1, 50))
def test_the_window_is_exact_and_monotone(gaps: list[float], intensity: int, period_s: float) -> None:
    """Guards against a window that counts a failure twice, forgets one too early, or a bigger one that allows less."""
    now, stamps = 0.0, []
    window, wider = RestartWindow(intensity, period_s), RestartWindow(intensity + 1, period_s)
    for gap in gaps:
        now += gap
        stamps.append(now)
        window, wider = window.add(now), wider.add(now)
        recent = [stamp for stamp in stamps if stamp >= now - period_s]
        assert list(window.stamps) == recent
        assert window.exceeded == (len(recent) > intensity)
        assert window.exceeded or not wider.exceeded
