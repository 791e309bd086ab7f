"""The checkpointer between receipts and the confirmation."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from actors import ActorContext, Cell, ChildSpec, Stalled, Supervisor, SupervisorSpec
from actors.testing import EventRecorder
from deltaforge.checkpoint import actor as module
from deltaforge.checkpoint.actor import CheckpointActor
from deltaforge.model import NOWHERE, Confirm, Lsn, Receipt


@dataclass
class Rig:
    receipts: dict[str, Cell[Receipt | None]] = field(default_factory=lambda: {"a": Cell(None), "b": Cell(None)})
    epoch: Cell[int] = field(default_factory=lambda: Cell(1))
    flush: Cell[Confirm] = field(default_factory=lambda: Cell(Confirm(0, Lsn(0))))

    def actor(self, hold_s: float = 0.0) -> CheckpointActor:
        return CheckpointActor(
            mode="all",
            quorum=None,
            receipts=self.receipts,
            required={"a": True, "b": True},
            epoch=self.epoch,
            flush=self.flush,
            hold_s=hold_s,
        )

    def say(self, sink: str, lsn: int, epoch: int = 1) -> None:
        self.receipts[sink].set(Receipt(epoch, NOWHERE, Lsn(lsn), 0))


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def settle(rig: Rig) -> Confirm:
    await trio.testing.wait_all_tasks_blocked()
    return rig.flush.value


async def test_what_all_sinks_hold_is_confirmed_and_never_lowered(rig: Rig, nursery: trio.Nursery) -> None:
    """Guards R2: the slowest sink decides, and a falling value is not passed on."""
    nursery.start_soon(rig.actor().run, ActorContext("checkpointer"))
    rig.say("a", 20)
    assert await settle(rig) == Confirm(0, Lsn(0))
    rig.say("b", 10)
    assert await settle(rig) == Confirm(1, Lsn(10))
    rig.say("b", 30)
    assert await settle(rig) == Confirm(1, Lsn(20))
    rig.say("a", 15)
    assert await settle(rig) == Confirm(1, Lsn(20))


async def test_a_new_epoch_begins_with_nothing_to_confirm(rig: Rig, nursery: trio.Nursery) -> None:
    """Guards a new stream against what was durable on the one before."""
    nursery.start_soon(rig.actor().run, ActorContext("checkpointer"))
    for sink in "ab":
        rig.say(sink, 20)
    await settle(rig)
    rig.epoch.set(2)
    rig.say("a", 5, epoch=2)
    assert await settle(rig) == Confirm(1, Lsn(20))
    rig.say("b", 5, epoch=2)
    assert await settle(rig) == Confirm(2, Lsn(5))


async def test_a_restart_confirms_what_was_written_meanwhile(rig: Rig, nursery: trio.Nursery) -> None:
    """Guards the restart: cells written while nobody looked must count without another write."""
    for sink in "ab":
        rig.say(sink, 20)
    nursery.start_soon(rig.actor().run, ActorContext("checkpointer"))
    assert await settle(rig) == Confirm(1, Lsn(20))


async def test_the_last_receipt_of_a_drain_is_confirmed(rig: Rig) -> None:
    """Guards the drain: what the sinks finish last has to reach PostgreSQL."""
    ctx = ActorContext("checkpointer")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.actor().run, ctx)
            await settle(rig)
            for sink in "ab":
                rig.say(sink, 20)
            ctx.stopping.set()
    assert rig.flush.value == Confirm(1, Lsn(20))


async def test_a_held_confirmation_comes_that_much_later(
    rig: Rig, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards slot_lag_seconds: WAL that a Kafka without its newest records would need again."""
    actor = rig.actor(hold_s=30)
    nursery.start_soon(actor.run, ActorContext("checkpointer"))
    rig.say("a", 10)
    rig.say("b", 10)
    await trio.sleep(29)
    rig.say("a", 20)
    rig.say("b", 20)
    assert rig.flush.value == Confirm(0, Lsn(0))
    await trio.sleep(3)
    assert rig.flush.value == Confirm(1, Lsn(10))
    await trio.sleep(30)
    assert rig.flush.value == Confirm(1, Lsn(20))


async def test_the_last_of_several_held_confirmations_is_passed_on(
    rig: Rig, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards slot_lag_seconds on a stream that falls quiet: its last transactions would hold their WAL for ever."""
    nursery.start_soon(rig.actor(hold_s=30).run, ActorContext("checkpointer"))
    for lsn in (10, 20):
        # Within one second, but not at its very beginning.
        await trio.sleep(0.1)
        rig.say("a", lsn)
        rig.say("b", lsn)
    await trio.sleep(60)
    assert rig.flush.value == Confirm(1, Lsn(20))


async def test_a_hang_is_noticed_although_its_listeners_always_wait(
    rig: Rig, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a slot that is never confirmed again, by an actor that looks as if it waited for news."""
    hangs = iter([trio.sleep_forever])

    async def hang_once(name: str) -> None:
        await next(hangs, trio.lowlevel.checkpoint)()

    monkeypatch.setattr(module, "failpoint_async", hang_once)
    recorder = EventRecorder()
    child = ChildSpec("checkpointer", rig.actor().run, stall_after_s=30.0)
    supervisor = Supervisor("root", SupervisorSpec(), [child], on_event=recorder)
    nursery.start_soon(supervisor.run)
    await trio.testing.wait_all_tasks_blocked()

    # GIVEN news that the hanging actor does not look at
    rig.say("a", 20)
    rig.say("b", 20)
    with trio.fail_after(600):
        await recorder.wait_for(Stalled)
        # THEN it is started again, and finds them
        await rig.flush.wait(lambda confirm: confirm.lsn == 20)
    supervisor.stop()
