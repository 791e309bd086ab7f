"""How raised errors are classified."""

from __future__ import annotations

import pytest

from actors import (
    Escalate,
    ExitKind,
    RestartIntensityExceeded,
    Retry,
    Shutdown,
    SpecError,
    StartFailed,
    error_text,
)
from actors.exits import classify, find_escalate

CRASH = ValueError("bad")


def group(*members: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("nursery", list(members))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, ExitKind.RETURNED),
        (CRASH, ExitKind.CRASHED),
        (Shutdown(), ExitKind.SHUTDOWN),
        (Retry(2.0), ExitKind.RETRY),
        (Escalate(CRASH), ExitKind.ESCALATED),
        (group(CRASH), ExitKind.CRASHED),
        (group(Shutdown()), ExitKind.SHUTDOWN),
        (group(group(Retry(2.0))), ExitKind.RETRY),
        (group(Shutdown(), Retry(2.0)), ExitKind.RETRY),
        (group(Shutdown(), Shutdown()), ExitKind.SHUTDOWN),
        (group(Retry(2.0), CRASH), ExitKind.CRASHED),
        (group(CRASH, group(Escalate(CRASH), Retry())), ExitKind.ESCALATED),
    ],
)
def test_a_group_counts_as_its_worst_member(error: Exception | None, kind: ExitKind) -> None:
    """Guards against an actor whose nursery wraps its Retry, and so crashes instead of retrying."""
    exit = classify(error)
    assert exit.kind is kind
    assert exit.error is error


def test_the_longest_delay_of_several_retries_wins() -> None:
    """Guards against hammering a server that asked for patience."""
    assert classify(group(Retry(1.0), Retry(4.0), Retry(2.0))).delay_s == 4.0


def test_the_escalation_is_found_inside_groups() -> None:
    """Guards against a root that sees a group instead of the cause."""
    wanted = Escalate(CRASH)
    assert find_escalate(group(Retry(), group(wanted))) is wanted
    assert wanted.cause is CRASH


@pytest.mark.parametrize("delay_s", [-1.0, float("inf"), float("nan")])
def test_a_retry_must_come_back_one_day(delay_s: float) -> None:
    """Guards against a child that waits for ever without saying so."""
    with pytest.raises(SpecError, match="delay_s"):
        Retry(delay_s)


def test_an_error_shows_as_type_and_message_of_what_matters() -> None:
    """Guards against operators who read 'unhandled errors in a TaskGroup'."""
    assert error_text(group(group(CRASH))) == "ValueError: bad"
    assert error_text(Escalate(group(CRASH))) == "ValueError: bad"
    assert error_text(KeyError()) == "KeyError"
    assert error_text(Retry()) == "Retry: asked to be started again"
    assert error_text(group(CRASH, CRASH)).startswith("ExceptionGroup: nursery")


def test_giving_up_names_the_real_failure() -> None:
    """Guards against a last line that says `1 sub-exception`: an actor with a nursery fails in groups."""
    exceeded = RestartIntensityExceeded("app/a", group(CRASH, group(group(KeyError("x")))), "failed twice")

    assert str(exceeded) == "app/a: failed twice; last failure: KeyError: 'x'"
    assert str(StartFailed("app/a", group(CRASH))) == "app/a did not start: ValueError: bad"
