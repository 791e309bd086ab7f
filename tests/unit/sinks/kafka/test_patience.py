"""What is said, and done, while Kafka owes an answer. In virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
import trio

from deltaforge.errors import DeltaforgeError, OperatorError, TransientError
from deltaforge.sinks.kafka.patience import tell_when_stuck, tell_while_opening

if TYPE_CHECKING:
    from trio.testing import MockClock

    from deltaforge.sinks.kafka.session import Session

AWAY = TransientError("no broker is up", hint="")
REFUSED = OperatorError("the certificate has expired", hint="exchange it")


@dataclass
class Asked:
    """A session that owes an answer."""

    trouble: DeltaforgeError | None
    progress: tuple[int, int] | None = (0, 0)
    given_up: list[tuple[float, DeltaforgeError]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def give_up(self, cause: DeltaforgeError) -> None:
        self.given_up.append((trio.current_time(), cause))

    def forget_trouble(self) -> None:
        self.trouble = None

    def report(self, state: str, detail: str) -> None:
        self.said.append(f"{state}: {detail}" if detail else state)

    @property
    def as_session(self) -> Session:
        return cast("Session", self)


async def test_an_outage_is_said_and_waited_out(autojump_clock: MockClock) -> None:
    """Guards against a client that is thrown away for brokers that are merely away."""
    asked = Asked(AWAY)
    with trio.move_on_after(100):
        await tell_when_stuck(asked.as_session, asked.report, 0)
    assert set(asked.said) == {f"waiting: {AWAY.line()}"}
    assert asked.given_up == []


@pytest.mark.fault("K15")
@pytest.mark.parametrize(("tries", "seconds"), [(0, 10), (1, 20), (7, 40)])
async def test_a_client_that_needs_a_person_is_given_up(autojump_clock: MockClock, tries: int, seconds: float) -> None:
    """Guards against a client that goes on with a file that was exchanged long ago."""
    working, opening = Asked(REFUSED), Asked(REFUSED)
    with trio.move_on_after(50):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_when_stuck, working.as_session, working.report, tries)
            nursery.start_soon(tell_while_opening, opening.as_session, opening.report, tries)
    assert {*working.said, *opening.said} == {f"blocked: {REFUSED.line()}"}
    assert opening.given_up[0] == (seconds, REFUSED)
    # Nothing is said for the first four seconds of a silence.
    assert working.given_up[0] == (seconds + 3, REFUSED)


async def test_an_outage_before_counts_for_nothing(autojump_clock: MockClock) -> None:
    """Guards against a client that is given up for the first word of a broker that has just come back."""
    asked = Asked(AWAY)
    with trio.move_on_after(68.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_while_opening, asked.as_session, asked.report, 0)
            await trio.sleep(60.5)
            asked.trouble = REFUSED
    assert asked.said[-1] == f"blocked: {REFUSED.line()}"
    assert asked.given_up == []


async def test_what_was_complained_about_is_over_when_an_answer_comes(autojump_clock: MockClock) -> None:
    """Guards against a client that is given up for what was mended before."""
    asked = Asked(REFUSED)
    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_when_stuck, asked.as_session, asked.report, 0)
            await trio.sleep(8.5)
            asked.progress = (1, 0)
            await trio.sleep(3)
            assert asked.said[-1] == "running"
            # Stuck again, for another reason.
            await trio.sleep(50)
            nursery.cancel_scope.cancel()
    assert asked.said[-1] == "waiting: Kafka: no answer to what was sent"
    assert asked.given_up == []
