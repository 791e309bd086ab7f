"""Runs of whole small transactions: finding them in the stream, cutting them, taking them apart. Pure.

Rule 1: a run is nothing but its parts said in fewer words. Whoever cannot use it as a whole takes `parts(run)`.
Rule 2: `whole` and `plain_rows` have a compiled twin (_walk.pyx) with the same results.
Rule 3: a COMMIT says most of what it says twice, the frame around it included. What does not agree is no COMMIT: its
        end is what PostgreSQL is told it may forget.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from deltaforge.model import Lsn, Relation, TransactionPart, TransactionRun
from deltaforge.twin import compiled_module

if TYPE_CHECKING:
    from collections.abc import Callable

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970-01-01."""

_XLOG, _HEADER = 0x77, 25
_BEGIN, _COMMIT, _RELATION, _MESSAGE = b"BCRM"
_ROWS = frozenset(b"IUDT")
_UNCOUNTED = frozenset(b"RYO")
_BEGIN_SIZE, _COMMIT_SIZE = _HEADER + 21, _HEADER + 26
_begin = struct.Struct(">QqI").unpack_from
_CLOSING = struct.Struct(">xQQ8x2xQQq")


class Closing(NamedTuple):
    """A COMMIT with its frame."""

    start: int
    """The frame's two positions: both are the end of the commit record."""
    wal_end: int
    commit_lsn: int
    end_lsn: int
    commit_time: int
    """Microseconds since 2000."""


def closing(message: bytes) -> Closing:
    """Take a COMMIT apart. Raises struct.error when it is too short."""
    return Closing._make(_CLOSING.unpack_from(message))


class Whole(NamedTuple):
    """Whole transactions at the beginning of some messages. The compiled twin gives a plain tuple of these."""

    stop: int
    """Index after the last COMMIT."""
    transactions: int
    events: int
    relations: int
    nbytes: int
    first_commit_lsn: int
    xid: int
    """Of the last transaction, as the fields below."""
    commit_lsn: int
    commit_time_us: int
    last_events: int
    end_lsn: int


def whole(messages: list[bytes], at: int, max_events: int) -> Whole:
    """The whole transactions from `messages[at]` on that hold at most `max_events` events together.

    Ends before anything else than a well-formed transaction; what is wrong there is for others to say.
    """
    found = Whole(at, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    while (one := _transaction(messages, found.stop)) is not None:
        events = found.events + one.events
        if events > max_events:
            break
        found = one._replace(
            transactions=found.transactions + 1,
            events=events,
            relations=found.relations + one.relations,
            nbytes=found.nbytes + one.nbytes,
            first_commit_lsn=found.first_commit_lsn or one.commit_lsn,
        )
    return found


def _transaction(messages: list[bytes], at: int) -> Whole | None:
    """The whole transaction that begins at `messages[at]`, if there is one."""
    if at >= len(messages):
        return None
    message = messages[at]
    if len(message) != _BEGIN_SIZE or message[0] != _XLOG or message[_HEADER] != _BEGIN:
        return None
    commit_lsn, commit_time, xid = _begin(message, _HEADER + 1)
    events, relations, nbytes = 0, 0, len(message)
    for index in range(at + 1, len(messages)):
        message = messages[index]
        if len(message) <= _HEADER + 1 or message[0] != _XLOG:
            return None
        tag = message[_HEADER]
        nbytes += len(message)
        if tag in _ROWS or (tag == _MESSAGE and message[_HEADER + 1] & 1):
            events += 1
        elif tag == _COMMIT:
            if len(message) != _COMMIT_SIZE:
                return None
            said, time = closing(message), commit_time + POSTGRES_EPOCH_US
            end_lsn = said.end_lsn
            if said != (end_lsn, end_lsn, commit_lsn, end_lsn, commit_time):
                return None
            return Whole(index + 1, 1, events, relations, nbytes, commit_lsn, xid, commit_lsn, time, events, end_lsn)
        elif tag in _UNCOUNTED:
            relations += tag == _RELATION
        else:
            return None
    return None


def plain_rows(messages: list[bytes], at: int) -> tuple[int, int]:
    """Where the row messages that begin at `messages[at]` end, and how many bytes they have."""
    nbytes = 0
    for index in range(at, len(messages)):
        message = messages[index]
        if len(message) <= _HEADER or message[0] != _XLOG or message[_HEADER] not in _ROWS:
            return index, nbytes
        nbytes += len(message)
    return len(messages), nbytes


_twin = compiled_module("deltaforge._walk")
find_whole: Callable[[list[bytes], int, int], Whole] = whole
"""`whole`, compiled where it can be."""
find_rows: Callable[[list[bytes], int], tuple[int, int]] = plain_rows
"""`plain_rows`, compiled where it can be."""
if _twin is not None:
    find_whole, find_rows = _twin.whole, _twin.plain_rows


def make_run(
    messages: list[bytes], at: int, found: Whole, relations: tuple[Relation, ...], previous_end: Lsn
) -> TransactionRun:
    """The run that `found` describes; `relations` has exactly those of its Relation messages."""
    return TransactionRun(
        messages[at : found.stop], relations, found.transactions, found.events, Lsn(found.first_commit_lsn),
        previous_end, found.xid, Lsn(found.commit_lsn), found.commit_time_us, found.last_events, Lsn(found.end_lsn),
        found.nbytes,
    )  # fmt: skip


def cut(run: TransactionRun, max_events: int) -> tuple[TransactionRun | None, TransactionRun | None]:
    """The transactions at the front that hold at most `max_events` events together, and the rest.

    The first is None when the first transaction alone holds more; the second when nothing is left.
    """
    if run.events <= max_events:
        return run, None
    return divide(run, Whole._make(find_whole(run.messages, 0, max_events)))


def first_part(run: TransactionRun) -> tuple[TransactionPart, TransactionRun | None]:
    """The first transaction, and the rest."""
    stop = 1
    while run.messages[stop][_HEADER] != _COMMIT:
        stop += 1
    head, rest = divide(run, Whole._make(find_whole(run.messages[: stop + 1], 0, run.events)))
    assert head is not None
    return parts(head)[0], rest


def divide(run: TransactionRun, front: Whole) -> tuple[TransactionRun | None, TransactionRun | None]:
    """Cut `run` after `front`."""
    if not front.transactions:
        return None, run
    head = make_run(run.messages, 0, front, run.relations[: front.relations], run.previous_end)
    if front.stop == len(run.messages):
        return head, None
    first = Lsn(_begin(run.messages[front.stop], _HEADER + 1)[0])
    rest = TransactionRun(
        run.messages[front.stop :], run.relations[front.relations :], run.transactions - front.transactions,
        run.events - front.events, first, head.end_lsn, run.xid, run.commit_lsn, run.commit_time_us, run.last_events,
        run.end_lsn, run.nbytes - front.nbytes,
    )  # fmt: skip
    return head, rest


def parts(run: TransactionRun) -> list[TransactionPart]:
    """The transactions of `run`, one by one."""
    out: list[TransactionPart] = []
    relations = iter(run.relations)
    previous_end, first, events, nbytes = run.previous_end, 0, 0, 0
    own: list[Relation] = []
    for index, message in enumerate(run.messages):
        tag = message[_HEADER]
        nbytes += len(message)
        if tag == _BEGIN:
            first, events, nbytes, own = index, 0, len(message), []
        elif tag == _RELATION:
            own.append(next(relations))
        elif tag == _COMMIT:
            commit_lsn, commit_time, xid = _begin(run.messages[first], _HEADER + 1)
            end_lsn = Lsn(closing(message).end_lsn)
            out.append(
                TransactionPart(
                    xid, Lsn(commit_lsn), commit_time + POSTGRES_EPOCH_US, 0, events, run.messages[first + 1 : index],
                    tuple(own), end_lsn, previous_end, nbytes,
                )
            )  # fmt: skip
            previous_end = end_lsn
        elif tag not in _UNCOUNTED:
            events += 1
    return out
