"""Events: each has a sentence for humans and a flat dict for logs."""

from __future__ import annotations

from dataclasses import fields

import pytest

from actors import (
    AutoShutdownTriggered,
    ChildCrashed,
    ChildExited,
    ChildRestarting,
    ChildRetrying,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    Stalled,
    StopTimedOut,
)

AT = ("root/p", "sink", 1.5)
CRASH = ValueError("bad")
EVENTS: list[tuple[Event, str]] = [
    (ChildStarted(*AT, attempt=2, took_s=0.25), "started (attempt 2) after 0.25 s"),
    (ChildExited(*AT, reason="returned"), "ended: returned"),
    (ChildCrashed(*AT, error=CRASH), "crashed: ValueError: bad"),
    (ChildRetrying(*AT, reason="away"), "asks for a retry: away"),
    (ChildRestarting(*AT, delay_s=2.0, counted=True, group=("sink",)), "restarts in 2 s"),
    (ChildStopped(*AT, took_s=0.5, cancelled=False, error=None), "stopped in time (0.5 s)"),
    (
        ChildStopped(*AT, took_s=5.0, cancelled=True, error=CRASH),
        "stopped after its grace was over (5 s): ValueError: bad",
    ),
    (StopTimedOut(*AT, waited_s=1.0, stack="...", role="worker"), "does not stop, 1 s after its cancellation"),
    (Stalled(*AT, silent_s=30.0, stack="..."), "was silent for 30 s"),
    (Escalated(*AT, error=CRASH), "takes its supervisor down: ValueError: bad"),
    (AutoShutdownTriggered(*AT), "was significant: its supervisor ends"),
]


@pytest.mark.parametrize(("event", "sentence"), EVENTS)
def test_an_event_is_a_sentence_with_its_path(event: Event, sentence: str) -> None:
    """Guards against log lines that do not say who."""
    assert str(event) == f"root/p/sink {sentence}"


@pytest.mark.parametrize("event", [event for event, _ in EVENTS])
def test_an_event_is_a_flat_dict_with_all_its_fields(event: Event) -> None:
    """Guards against exception objects in a structured log."""
    values = event.as_dict()
    assert set(values) == {"event"} | {field.name for field in fields(event)}
    assert all(isinstance(value, str | int | float | tuple | None) for value in values.values())


def test_the_name_of_an_event_is_in_snake_case() -> None:
    """Guards against names that change with the fashion of the log."""
    assert AutoShutdownTriggered(*AT).as_dict()["event"] == "auto_shutdown_triggered"
    assert ChildCrashed(*AT, error=CRASH).as_dict()["error"] == "ValueError: bad"
    assert {type(event) for event, _ in EVENTS} == set(Event.__subclasses__())
