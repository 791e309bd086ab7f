"""The delivery protocol around the real door and guard, small enough to walk through all of its states.

A server with a slot, a Kafka topic with its checkpoint record, and one process whose door, guard and anchor are those
of `deltaforge.position`. What may happen: the process reads, commits, confirms, dies between any two of these; a
commit's answer is lost; the server crashes and its slot falls back; and, once, somebody restores an old copy or moves
the slot.

Checked in every state: Kafka holds a prefix of one history, each row once and in order; the slot is never past what
Kafka holds; a refusal needs an unrecoverable fault and moves nothing. From every state, without further faults, the
process either delivers everything or refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from deltaforge.errors import Refused
from deltaforge.model import (
    Checkpoint,
    Lease,
    LogicalMessage,
    Lsn,
    Progress,
    SlotState,
    TransactionPart,
    Watermark,
)
from deltaforge.position import Door, guard, item_flush

if TYPE_CHECKING:
    from collections.abc import Iterator

Sent: TypeAlias = TransactionPart | LogicalMessage | Watermark

BORN = Lsn(5)
WAL_END = Lsn(45)


def transaction(xid: int, commit: int, end: int, *parts: int) -> list[TransactionPart]:
    """A transaction in parts of so many events; the COMMIT is in the last part."""
    made, index = [], 0
    for number, events in enumerate(parts, 1):
        end_lsn = Lsn(end if number == len(parts) else 0)
        made.append(TransactionPart(xid, Lsn(commit), xid * 10, index, events, [], (), end_lsn, Lsn(0), 1))
        index += events
    return made


def message(lsn: int, content: bytes) -> LogicalMessage:
    return LogicalMessage(Lsn(lsn), b"w" + bytes(24) + b"M" + bytes(9) + b"p\0" + content, Lsn(0), 1)


ORIGINAL: tuple[Sent, ...] = (
    *transaction(1, 10, 12, 1),
    Watermark(Lsn(15)),
    message(20, b"m"),  # at the commit LSN of the next transaction
    *transaction(2, 20, 22, 1, 1),
    *transaction(3, 30, 32, 0),
    *transaction(4, 40, 43, 1, 1, 0),
    Watermark(WAL_END),
)
COPY: tuple[Sent, ...] = (  # an older copy of the same server that wrote on by itself after transaction 1
    *transaction(1, 10, 12, 1),
    *transaction(7, 13, 14, 1),
    Watermark(Lsn(15)),
    *transaction(8, 20, 22, 1),
    Watermark(WAL_END),
)
HISTORIES = (ORIGINAL, COPY)


def rows(item: Sent, skip: int = 0) -> tuple[str, ...]:
    if isinstance(item, TransactionPart):
        return tuple(f"{item.xid}.{item.first_index + n}" for n in range(skip, item.events))
    return ("m",) if isinstance(item, LogicalMessage) and not skip else ()


WANTED = tuple(tuple(row for item in history for row in rows(item)) for history in HISTORIES)


class Session(NamedTuple):
    """One epoch: slot and progress it began from, how many items were taken, rows not committed yet."""

    confirmed: Lsn
    history: int
    began: Progress
    taken: int = 0
    pending: tuple[str, ...] = ()


class State(NamedTuple):
    history: int = 0
    confirmed: Lsn = BORN
    log: tuple[str, ...] = ()
    record: Progress = Progress(flush_lsn=BORN)
    session: Session | None = None
    refused: bool = False
    fault: str = ""
    """The unrecoverable one, if it happened."""
    moved_to: Lsn = Lsn(0)
    """Where that fault left the slot."""
    faults: int = 0
    """Recoverable ones so far."""


def stream(history: int, confirmed: Lsn) -> list[Sent]:
    """What the server sends: commits at or after the slot's position, messages after it."""
    return [
        item
        for item in HISTORIES[history]
        if (item.commit_lsn >= confirmed if isinstance(item, TransactionPart) else item.lsn > confirmed)
    ]


def lease(confirmed: Lsn) -> Lease:
    return Lease(1, 99, "sys", 1, (), "db", "slot", confirmed)


def slot(confirmed: Lsn) -> SlotState:
    return SlotState(True, 99, confirmed, Lsn(1), "reserved", WAL_END, "sys", "db", 0)


class DeliveryModel:
    """The steps of the protocol. Subclasses leave a rule out, to show that the walk would notice."""

    def open(self, confirmed: Lsn, record: Progress) -> Progress:
        found = Checkpoint("running", "sys", 1, "db", "slot", "pub", "opt", "me", 1, record)
        return guard(found, lease(confirmed), slot(confirmed))

    def door(self, session: Session) -> Door:
        """The door after the items the session has taken; the door itself cannot be part of a frozen state."""
        made = self.make_door(session)
        for item in stream(session.history, session.confirmed)[: session.taken]:
            made.take(item)
        return made

    def make_door(self, session: Session) -> Door:
        return Door(lease(session.confirmed), session.began)

    def confirmable(self, door: Door) -> Lsn:
        return door.confirmable

    # ---- what happens without faults

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        session = state.session
        if state.refused:
            return
        if session is None:
            try:
                began = self.open(state.confirmed, state.record)
            except Refused:
                yield "guard refuses", state._replace(refused=True)
                return
            yield "opens", state._replace(session=Session(state.confirmed, state.history, began))
            return
        items = stream(session.history, session.confirmed)
        door = self.door(session)
        accepted = door.accepted
        last = items[session.taken - 1] if session.taken else None
        splits = isinstance(last, TransactionPart) and last.xid == 4
        if last is not None and accepted != state.record and (item_flush(last) or splits):
            yield "commits", self.committed(state, session, accepted)
        if session.taken < len(items):
            yield self.take(state, session, door, items[session.taken])
        door.committed(state.record)
        if (lsn := self.confirmable(door)) > state.confirmed:
            yield f"confirms {lsn}", state._replace(confirmed=lsn)

    def take(self, state: State, session: Session, door: Door, item: Sent) -> tuple[str, State]:
        try:
            passed = door.take(item)
        except Refused:
            return "door refuses", state._replace(refused=True, session=None)
        new = rows(item, passed.skip if isinstance(item, TransactionPart) else int(not passed.events))
        after = session._replace(taken=session.taken + 1, pending=session.pending + new)
        return f"takes {item}", state._replace(session=after)

    def committed(self, state: State, session: Session, accepted: Progress) -> State:
        kept = session._replace(pending=())
        return state._replace(log=state.log + session.pending, record=accepted, session=kept)

    # ---- faults

    def failures(self, state: State) -> Iterator[tuple[str, State]]:
        if state.refused:
            return
        session = state.session
        if session is not None:
            yield "killed", state._replace(session=None, faults=state.faults + 1)
            for label, after in self.steps(state):
                if label == "commits":
                    yield "committed, answer lost", after._replace(session=None, faults=state.faults + 1)
        for lower in sorted({BORN, *(item_flush(item) for item in HISTORIES[state.history])}):
            if max(BORN, state.moved_to) <= lower < state.confirmed:
                yield f"slot falls to {lower}", state._replace(confirmed=lower, session=None, faults=state.faults + 1)

    def disasters(self, state: State) -> Iterator[tuple[str, State]]:
        if state.fault or state.refused:
            return
        gone = state._replace(session=None)
        for at in (BORN, Lsn(12)):
            if at <= state.confirmed:
                yield "copy restored", gone._replace(history=1, confirmed=at, fault="restore", moved_to=at)
        for at in (Lsn(22), WAL_END):
            if at > state.confirmed:
                yield "slot moved", gone._replace(confirmed=at, fault="advance", moved_to=at)

    # ---- what has to hold

    def wrong(self, state: State) -> str:
        """The rule this state breaks, or ''."""
        if not any(state.log == wanted[: len(state.log)] for wanted in {WANTED[0], WANTED[state.history]}):
            return f"lost, repeated or mixed rows: {state.log}"
        by_hand = state.fault == "advance" and state.confirmed == state.moved_to
        if not by_hand and state.confirmed > max(state.record.flush_lsn, BORN):
            return f"slot at {state.confirmed}, past the record's {state.record.flush_lsn}"
        if not by_hand and not state.fault:
            for item in ORIGINAL:
                before = item.last.commit_lsn < state.confirmed if not isinstance(item, Watermark) else False
                if before and any(row not in state.log for row in rows(item)):
                    return f"slot at {state.confirmed}, but {item} is not in Kafka"
        if state.refused and not state.fault:
            return "refused although nothing unrecoverable happened"
        if state.refused and state.confirmed != state.moved_to:
            return f"refused after the slot had been moved to {state.confirmed}"
        return ""

    def finishes(self, state: State) -> str:
        """Without further faults the process delivers everything or refuses; else the state it is stuck in."""
        while True:
            ahead = [after for label, after in self.steps(state) if after != state]
            if state.refused:
                return ""
            if not ahead:
                done = state.log == WANTED[state.history] and state.confirmed == WAL_END
                return "" if done else f"stuck: {state}"
            # Prefer what moves least: confirm, then commit, then read on.
            state = ahead[-1] if len(ahead) > 1 and ahead[-1].confirmed > state.confirmed else ahead[0]
