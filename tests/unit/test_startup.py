"""The first start beside a rival: what it found at one look may be half of what the rival does."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from deltaforge.errors import Refused
from deltaforge.model import Checkpoint, Lsn, Progress, SlotState, Stored
from deltaforge.source.publication import PublicationReport
from deltaforge.source.sql import Identity
from deltaforge.startup import FirstStart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import trio.testing

    from deltaforge.source.sql import ControlSession

POINT = Lsn(0x50)
NO_SLOT = SlotState(False, 0, Lsn(0), Lsn(0), "", POINT, "7001", "shop", 0)
SLOT = SlotState(True, 4711, POINT, Lsn(0x48), "reserved", POINT, "7001", "shop", 0)
BORN = Checkpoint("born", "7001", 1, "shop", "s", "p", "options", "rival", 0, Progress(flush_lsn=POINT))


class Server:
    """The control session's answers while a rival works: one slot state per look, the last one for ever."""

    def __init__(self, *looks: SlotState) -> None:
        self.looks = list(looks)

    async def identify(self) -> Identity:
        return Identity("7001", 1, "shop", "logical", 180001, "cdc", 60000)

    check_server = identify

    async def check_publication(self, patterns: Sequence[str]) -> PublicationReport:
        return PublicationReport(tuple(patterns), ())

    async def slot_state(self) -> SlotState:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


class Topic:
    """A checkpoint topic that the rival has written to; `later` comes right after our first look."""

    name = "_deltaforge.p.s"

    def __init__(self, *records: Checkpoint, later: Sequence[Checkpoint] = (), name: str = name) -> None:
        self.name = name
        self.records = {record.state: record for record in records}
        self.later = list(later)
        self.written: list[str] = []
        self.peeks = self.judged = 0

    async def peek(self) -> Stored:
        self.peeks += 1
        found = Stored(**self.records)
        self.records |= {record.state: record for record in self.later}
        return found

    async def ensure(self, like_topic: str | None) -> tuple[str, ...]:
        self.judged += 1
        return ()

    async def write_first(self, record: Checkpoint) -> None:
        self.written.append(record.state)
        self.records[record.state] = record


async def _no_topics(tables: Sequence[str]) -> str | None:  # noqa: ASYNC124 - asynchronous for its caller
    return None


def _first_start(
    topic: Topic,
    made: list[Lsn | None],
    optional: frozenset[str] = frozenset(),
    others: Sequence[Topic] = (),
    enough: Callable[[frozenset[str]], bool] = lambda origins: False,
) -> FirstStart:
    async def make_slot() -> Lsn | None:  # noqa: ASYNC124 - asynchronous for its caller
        return made.pop(0)

    return FirstStart(
        slot="s",
        publication="p",
        options="options",
        instance="ours",
        origins=[topic, *others],
        make_slot=make_slot,
        prepare_topics=_no_topics,
        patterns=["public.orders"],
        adopt=Lsn(0),
        accept_gap=Lsn(0),
        optional=optional,
        enough=enough,
    )


async def test_a_record_seen_before_its_slot_is_looked_at_once_more(autojump_clock: trio.testing.MockClock) -> None:
    """Guards a refusal because the rival made the slot and wrote its record between our two questions."""
    topic = Topic(BORN)

    await _first_start(topic, []).prepare(cast("ControlSession", Server(NO_SLOT, SLOT)))

    assert topic.written == []


async def test_a_slot_that_a_rival_was_faster_to_make_is_adopted_at_its_first_position() -> None:
    """Guards a first start that exits, or writes another position, because somebody else made the slot."""
    topic = Topic()
    beaten: list[Lsn | None] = [None]

    await _first_start(topic, beaten).prepare(cast("ControlSession", Server(NO_SLOT, NO_SLOT, SLOT)))

    assert topic.written == ["creating", "born"]
    assert topic.records["born"].progress.flush_lsn == POINT


async def test_a_record_that_a_rival_wrote_is_not_written_again() -> None:
    """Guards two `born` records, of which the later one would hide what the first position promised."""
    topic = Topic(msgspec.structs.replace(BORN, state="creating"), later=[BORN])

    await _first_start(topic, []).prepare(cast("ControlSession", Server(SLOT)))

    assert topic.written == []


async def test_a_topic_that_the_policy_can_do_without_is_asked_until_it_has_a_position() -> None:
    """Guards new streams against a Kafka that nobody waits for and that may be away."""
    needed, spared = Topic(BORN), Topic(msgspec.structs.replace(BORN, state="creating"), later=[BORN])
    for topic, optional in ((needed, frozenset[str]()), (spared, frozenset({Topic.name}))):
        first = _first_start(topic, [], optional)
        await first.prepare(cast("ControlSession", Server(SLOT)))
        topic.peeks = 0
        await first.prepare(cast("ControlSession", Server(SLOT)))
        await first.prepare(cast("ControlSession", Server(SLOT)))
    assert (needed.peeks, spared.peeks) == (2, 0)


async def test_a_sink_that_can_be_spared_and_has_lost_its_record_is_left_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Guards the pipeline against the topic of a sink that nobody waits for. It is not made anew either."""
    needed, spared = Topic(BORN, name="needed"), Topic(name="spared")
    first = _first_start(needed, [], others=[spared], enough=lambda origins: "needed" in origins)
    for _ in range(2):
        await first.prepare(cast("ControlSession", Server(SLOT)))
    assert (spared.peeks, spared.judged, spared.written) == (2, 0, [])
    assert needed.judged == 1
    # AND the other way round nothing is left out
    other = _first_start(Topic(name="needed"), [], others=[Topic(BORN, name="spared")], enough=lambda o: "needed" in o)
    with pytest.raises(Refused, match="one Kafka sink has no checkpoint record"):
        await other.prepare(cast("ControlSession", Server(SLOT)))
