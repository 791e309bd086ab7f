"""Walk through every state of the delivery model: with the real door and guard, and with rules left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from deltaforge import position
from deltaforge.model import LogicalMessage, Lsn, Progress, TransactionPart
from deltaforge.position import Door
from tests.model.delivery_model import DeliveryModel, Session, State, stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.model import Position


def walk(model: DeliveryModel, *, faults: int) -> tuple[str, int]:
    """Breadth first through all states with at most `faults` recoverable faults and one disaster. Problem, states."""
    seen = {State()}
    front = [State()]
    while front:
        found: list[State] = []
        for state in front:
            if problem := model.wrong(state) or model.finishes(state):
                return problem, len(seen)
            ahead = [after for _, after in (*model.steps(state), *model.disasters(state))]
            if state.faults < faults:
                ahead += [after for _, after in model.failures(state)]
            for after in ahead:
                if after not in seen:
                    seen.add(after)
                    found.append(after)
        front = found
    return "", len(seen)


def test_no_fault_at_any_moment_loses_or_repeats_a_row() -> None:
    """Guards the exactly-once promise of door, guard, anchor and feedback together."""
    problem, states = walk(DeliveryModel(), faults=2)
    assert problem == ""
    assert states > 1000


class NoGuard(DeliveryModel):
    def open(self, confirmed: Lsn, record: Progress) -> Progress:
        return record


class _Believing(Door):
    """Takes the anchor for seen."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._seen = True


class NoAnchor(DeliveryModel):
    def make_door(self, session: Session) -> Door:
        made = super().make_door(session)
        made.__class__ = _Believing
        made._seen = True
        return made


class ConfirmsAccepted(DeliveryModel):
    """Tells PostgreSQL what was taken, not what is durable."""

    def confirmable(self, door: Door) -> Lsn:
        return door.accepted.flush_lsn


class ConfirmsWithoutReach(DeliveryModel):
    """Confirms the record before this very stream has shown that it goes on there."""

    def confirmable(self, door: Door) -> Lsn:
        return door.durable.flush_lsn


class RecordOutside(DeliveryModel):
    """Writes the record after the rows; here it never comes to that."""

    def committed(self, state: State, session: Session, accepted: Progress) -> State:
        return super().committed(state, session, accepted)._replace(record=session.began)


def _skips_one_less(part: TransactionPart, start: Position) -> int:
    return max(0, position_skipped(part, start) - 1)


def _skips_by_commit(part: TransactionPart, start: Position) -> int:
    return part.events if part.commit_lsn <= start.commit_lsn else 0


position_skipped: Callable[[TransactionPart, Position], int] = position._skipped


@pytest.mark.parametrize("skipped", [_skips_one_less, _skips_by_commit])
def test_the_walk_notices_a_wrong_skip(
    skipped: Callable[[TransactionPart, Position], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a model that would pass whatever the door does."""
    monkeypatch.setattr(position, "_skipped", skipped)
    assert walk(DeliveryModel(), faults=1)[0]


@pytest.mark.parametrize("mutant", [NoGuard, NoAnchor, ConfirmsAccepted, ConfirmsWithoutReach, RecordOutside])
def test_the_walk_notices_a_missing_rule(mutant: type[DeliveryModel]) -> None:
    """Guards against a model that would pass whatever the protocol leaves out."""
    assert walk(mutant(), faults=1)[0]


def test_the_walk_notices_a_message_that_counts_as_the_first_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message may stand at the commit LSN of the next transaction; with index 0 it would swallow its first row."""
    monkeypatch.setattr(
        LogicalMessage, "last", property(lambda self: msgspec.structs.replace(ORIGINAL_LAST(self), index=0))
    )
    assert walk(DeliveryModel(), faults=1)[0]


ORIGINAL_LAST: Callable[[LogicalMessage], Position] = LogicalMessage.last.fget  # type: ignore[attr-defined]


def test_the_server_of_the_model_sends_a_transaction_again_at_equality_but_no_message() -> None:
    """Guards the model itself: this is what PostgreSQL does, and what the anchor's two rules are made for."""
    assert [type(item) for item in stream(0, Lsn(20))][:1] == [TransactionPart]
    assert any(isinstance(item, LogicalMessage) for item in stream(0, Lsn(15)))
