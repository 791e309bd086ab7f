"""What every sink promises, whatever it writes to. One suite; a rig per kind of sink.

A new kind: write a rig, add it to RIGS. `keeps_progress`: whether a restarted actor skips what it had made durable.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import pytest
import trio
import trio.testing

from actors import ActorContext, Escalate
from deltaforge.errors import Refused
from deltaforge.model import Lsn, Position
from deltaforge.sinks.file import FileSink
from deltaforge.sinks.memory import MemorySink
from deltaforge.sinks.stdout import StdoutSink
from tests.support.kafka_rig import KafkaRig
from tests.support.sink_rig import Handles, keep_running, mark, message, part

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from deltaforge.sinks.base import Sink

LIMIT_S = 60


class Rig(Protocol):
    """One sink under test. `sink()` is called for every start; it may return the same object."""

    handles: Handles
    keeps_progress: bool
    whole_transactions: bool
    """Whether a source transaction becomes durable as a whole only."""
    may_repeat: bool
    """Whether what was thrown away half delivered may be read twice."""

    def sink(self) -> Sink: ...

    def delivered(self) -> list[str]: ...


class MemoryRig:
    keeps_progress = True
    whole_transactions = may_repeat = False

    def __init__(self, _: Path) -> None:
        self.handles = Handles()
        self._sink = MemorySink(self.handles.wiring())

    def sink(self) -> Sink:
        return self._sink

    def delivered(self) -> list[str]:
        return [json.loads(record.value or b"")["id"] for record in self._sink.records]


class FileRig:
    keeps_progress = True
    whole_transactions = may_repeat = False

    def __init__(self, directory: Path) -> None:
        self.handles = Handles()
        self._path = directory / "out.jsonl"
        self._sink = FileSink(self.handles.wiring(), path=str(self._path))

    def sink(self) -> Sink:
        return self._sink

    def delivered(self) -> list[str]:
        return [json.loads(line)["value"]["id"] for line in self._path.read_text().splitlines()]


class StdoutRig:
    keeps_progress = True
    whole_transactions = may_repeat = False

    def __init__(self, _: Path) -> None:
        self.handles = Handles()
        read_end, write_end = os.pipe()
        self._sink = StdoutSink(self.handles.wiring(), fd=write_end)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(read_end,))
        self._reader.start()
        self._write_end = write_end

    def _read(self, fd: int) -> None:
        with os.fdopen(fd) as stream:
            self._lines.extend(stream)

    def sink(self) -> Sink:
        return self._sink

    def delivered(self) -> list[str]:
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1
            self._reader.join()
        return [json.loads(line)["value"]["id"] for line in self._lines]


RIGS: dict[str, Callable[[Path], Rig]] = {"memory": MemoryRig, "file": FileRig, "stdout": StdoutRig}
KAFKA = {"kafka": True, "kafka at least once": False}


@pytest.fixture(params=sorted([*RIGS, *KAFKA]))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param in KAFKA:
        cluster = request.getfixturevalue("kafka")
        yield KafkaRig(cluster.bootstrap(), exactly_once=KAFKA[request.param])
        return
    made = RIGS[request.param](tmp_path)
    yield made
    if isinstance(made, StdoutRig):
        made.delivered()


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Handles]:
    """The rig's sink, running; at the end its inbox is closed and it must return by itself."""
    restarts: list[str] = []
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_running, rig.sink, restarts)
            yield rig.handles
            rig.handles.inbox.close()
    assert restarts == []


async def test_every_event_is_written_in_order(rig: Rig) -> None:
    """Guards the plain case: parts, messages and watermarks over several batches."""
    async with running(rig) as handles:
        await handles.begin(1)
        await handles.feed(part(1, 10, 0, 2), mark(8))
        await handles.feed(part(1, 10, 2, 1, 12), message(15), part(2, 20, 0, 2, 22))
        await handles.until_durable(22)
    assert rig.delivered() == ["1.0", "1.1", "1.2", "m.15", "2.0", "2.1"]


async def test_what_was_taken_is_durable_when_the_inbox_ends(rig: Rig) -> None:
    """Guards the drain at SIGTERM: the end of the inbox is not the end of what is in it."""
    async with running(rig) as handles:
        await handles.begin(1)
        for xid in range(1, 50):
            await handles.feed(part(xid, 10 * xid, 0, 3, 10 * xid + 2))
    assert len(rig.delivered()) == 147
    assert handles.receipts.value is not None
    assert handles.receipts.value.flush_lsn == 492


async def test_a_receipt_names_position_confirmable_lsn_and_events(rig: Rig) -> None:
    """Guards the feedback: in mid-transaction the position rises and nothing more may be confirmed."""
    async with running(rig) as handles:
        await handles.begin(1)
        await handles.feed(part(1, 10, 0, 2, 12))
        await handles.until_durable(12)
        if not rig.whole_transactions:
            await handles.feed(part(2, 20, 0, 2))
            await handles.receipts.wait(lambda receipt: receipt is not None and receipt.events == 4)
        receipt = handles.receipts.value
        assert receipt is not None
        position = Position(Lsn(10), 2) if rig.whole_transactions else Position(Lsn(20), 1)
        assert (receipt.epoch, receipt.position, receipt.flush_lsn) == (1, position, 12)


@pytest.mark.fault("G16")
async def test_an_idle_stream_is_confirmed_by_its_watermarks(rig: Rig) -> None:
    """Guards T20: filtered tables must not pin WAL."""
    async with running(rig) as handles:
        await handles.begin(1)
        await handles.feed(mark(100 << 20))
        assert (await handles.until_durable(100 << 20)).events == 0


async def test_the_gate_opens_for_the_lease_it_belongs_to(rig: Rig) -> None:
    """Guards the reader's wait: an opened gate of an older epoch must not let a newer stream through."""
    async with running(rig) as handles:
        await handles.begin(1)
        await handles.gate.wait(lambda epoch: epoch == 1)
        await handles.begin(2)
        await handles.gate.wait(lambda epoch: epoch == 2)
    assert handles.encoder.resets == 2


async def test_a_gap_asks_for_a_rewind_and_nothing_more_is_written_until_the_next_lease(rig: Rig) -> None:
    """Guards an item lost in a crashed stage's hand."""
    async with running(rig) as handles:
        await handles.begin(1)
        await handles.feed(part(1, 10, 0, 1, 12))
        await handles.until_durable(12)
        await handles.feed(part(3, 30, 0, 1, 32), prev=5)
        await handles.feed(part(4, 40, 0, 1, 42))
        await handles.rewind.wait(lambda epoch: epoch == 1)
        await handles.begin(2, confirmed=12)
        await handles.feed(part(2, 20, 0, 1, 22), part(3, 30, 0, 1, 32), part(4, 40, 0, 1, 42))
        await handles.until_durable(42)
    assert rig.delivered() == ["1.0", "2.0", "3.0", "4.0"]


async def test_what_is_durable_is_skipped_when_the_stream_brings_it_again(rig: Rig) -> None:
    """Guards the rewind: PostgreSQL sends again whatever was not confirmed."""
    async with running(rig) as handles:
        await handles.begin(1)
        await handles.feed(part(1, 10, 0, 2, 12))
        await handles.until_durable(12)
        await handles.feed(part(2, 20, 0, 2))
        await handles.begin(2)
        await handles.feed(part(1, 10, 0, 2, 12), part(2, 20, 0, 4, 22))
        assert (await handles.until_durable(22)).events == 6
    delivered = list(dict.fromkeys(rig.delivered())) if rig.may_repeat else rig.delivered()
    assert delivered == ["1.0", "1.1", "2.0", "2.1", "2.2", "2.3"]
    # The transaction before is known although this stream did not begin with it.
    assert handles.encoder.previous_ends[-1] == 12


async def test_a_stale_batch_is_dropped_and_its_bytes_are_given_back(rig: Rig) -> None:
    """Guards a mailbox that still holds an older epoch."""
    async with running(rig) as handles:
        await handles.begin(2)
        await handles.feed(part(9, 90, 0, 1, 92), epoch=1, prev=0)
        await handles.feed(part(1, 10, 0, 1, 12), prev=0)
        await handles.until_durable(12)
        await handles.until_idle()
    assert rig.delivered() == ["1.0"]


async def test_the_budget_returns_to_zero(rig: Rig) -> None:
    """Guards the byte budget: a leak stops the reader for ever."""
    async with running(rig) as handles:
        await handles.begin(1)
        for xid in range(1, 20):
            await handles.feed(part(xid, 10 * xid, 0, 3, 10 * xid + 2))
        await handles.until_durable(192)
        await handles.feed(part(30, 300, 0, 1, 302), prev=1000)
        await handles.feed(part(31, 310, 0, 1, 312))
        await handles.rewind.wait(lambda epoch: epoch == 1)
        await handles.begin(2)
        await handles.until_idle()
        assert handles.budget.used == 0


async def test_a_sink_that_the_slot_has_passed_takes_nothing_more_and_says_so(rig: Rig) -> None:
    """Guards a sink that the others went on without: a hole in its rows must not look like success."""
    rig.handles.spared = True
    async with running(rig) as handles:
        await handles.begin(1)
        await handles.feed(part(1, 10, 0, 1, 12))
        await handles.until_durable(12)
        await handles.begin(2, confirmed=22)
        await handles.feed(part(3, 30, 0, 1, 32))
        await handles.until_idle()
        assert handles.reports[-1][0] == "detached"
        assert "between 0/C and 0/16 would be lost" in handles.reports[-1][1]
        assert handles.gate.value == 2
        assert handles.receipts.value is not None
        assert handles.receipts.value.epoch == 1
    assert rig.delivered() == ["1.0"]


@pytest.mark.parametrize("rig", sorted(RIGS), indirect=True)
async def test_what_a_crashed_server_sends_again_to_a_process_without_changes_is_written_again(rig: Rig) -> None:
    """Guards a quiet pipeline: only keepalives have come since its process began, and the slot has fallen back."""
    async with running(rig) as handles:
        await handles.begin(1, confirmed=12)
        await handles.feed(mark(15))
        await handles.until_durable(15)
        await handles.begin(2, confirmed=5)
        await handles.feed(part(1, 10, 0, 1, 12), part(2, 20, 0, 1, 22))
        await handles.until_durable(22)
    assert rig.delivered() == ["1.0", "2.0"]


@pytest.mark.parametrize("rig", sorted(RIGS), indirect=True)
async def test_a_sink_that_has_written_nothing_yet_notices_a_gap(rig: Rig) -> None:
    """Guards a spared sink that had no turn: the others were confirmed meanwhile, and it would begin behind them."""
    rig.handles.spared = True
    async with running(rig) as handles:
        await handles.begin(1, confirmed=5)
        await handles.begin(2, confirmed=12)
        await handles.feed(part(2, 20, 0, 1, 22))
        await handles.until_idle()
        assert handles.reports[-1][0] == "detached"
    assert rig.delivered() == []


@pytest.mark.parametrize("rig", sorted(RIGS), indirect=True)
async def test_a_sink_that_was_never_told_where_the_first_stream_began_notices_a_gap(rig: Rig) -> None:
    """Guards a spared file that could not be opened: left behind before its first turn, it would begin with a hole."""
    rig.handles.spared = True
    rig.handles.passed_over = 5
    async with running(rig) as handles:
        await handles.begin(2, confirmed=12)
        await handles.feed(part(2, 20, 0, 1, 22))
        await handles.until_idle()
        assert handles.reports[-1][0] == "detached"
        assert "between 0/5 and 0/C would be lost" in handles.reports[-1][1]
    assert rig.delivered() == []


async def test_a_restarted_sink_asks_for_a_rewind_and_drops_the_current_epoch(rig: Rig) -> None:
    """Guards the item in hand of a sink that died: only a new stream brings it again."""
    handles = rig.handles
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            # GIVEN a sink that is killed after its first durable batch
            scope, ended = trio.CancelScope(), trio.Event()
            await nursery.start(_run_in, scope, ended, rig.sink())
            await handles.begin(1)
            await handles.feed(part(1, 10, 0, 2, 12))
            await handles.until_durable(12)
            scope.cancel()
            await ended.wait()
            # WHEN the rest of the epoch comes, then a new one
            await handles.feed(part(2, 20, 0, 1, 22))
            nursery.start_soon(keep_running, rig.sink, [])
            await handles.rewind.wait(lambda epoch: epoch == 1)
            await handles.until_idle()
            await handles.begin(2)
            await handles.feed(part(1, 10, 0, 2, 12), part(2, 20, 0, 1, 22))
            await handles.until_durable(22)
            handles.inbox.close()
    # THEN everything is there, and once if the sink remembers
    repeated = [] if rig.keeps_progress else ["1.0", "1.1"]
    assert rig.delivered() == ["1.0", "1.1", *repeated, "2.0"]


async def _run_in(  # noqa: ASYNC128 - the context calls it
    scope: trio.CancelScope, ended: trio.Event, sink: Sink, *, task_status: trio.TaskStatus[None]
) -> None:
    with scope:
        await sink.run(ActorContext("sink", on_started=task_status.started))
    ended.set()


@pytest.mark.fault("G5")
async def test_another_history_is_refused_and_nothing_of_it_is_written(rig: Rig) -> None:
    """Guards a restored server: going on would drop its new rows as known ones."""
    handles = rig.handles
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refused, rig.sink())
            await trio.testing.wait_all_tasks_blocked()
            await handles.begin(1)
            await handles.feed(part(1, 10, 0, 1, 12))
            await handles.until_durable(12)
            await handles.begin(2)
            await handles.feed(part(7, 10, 0, 1, 12), part(8, 20, 0, 1, 22))
    assert rig.delivered() == ["1.0"]


async def test_a_sink_that_the_policy_waits_for_refuses_when_the_slot_has_passed_it(rig: Rig) -> None:
    """Guards against a pipeline that says it runs, and neither delivers nor confirms anything any more."""
    handles = rig.handles
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refused, rig.sink())
            await trio.testing.wait_all_tasks_blocked()
            await handles.begin(1)
            await handles.feed(part(1, 10, 0, 1, 12))
            await handles.until_durable(12)
            await handles.begin(2, confirmed=22)
    assert handles.reports[-1][0] == "refused"
    assert "between 0/C and 0/16 would be lost" in handles.reports[-1][1]
    assert handles.gate.value == 1


async def _refused(sink: Sink) -> None:
    with pytest.raises(Escalate) as escalated:
        await sink.run(ActorContext("sink"))
    assert isinstance(escalated.value.cause, Refused)
