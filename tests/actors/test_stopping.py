"""Stops: in order, with grace, reported when somebody refuses, and drains. All in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from actors import (
    IMMEDIATE,
    ActorContext,
    ChildCrashed,
    ChildExited,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    ChildStopped,
    Escalated,
    Mailbox,
    Restart,
    RestartIntensityExceeded,
    StallDetected,
    Stalled,
    StopTimedOut,
    Strategy,
    Supervisor,
    SupervisorSpec,
)
from actors.testing import EventRecorder, ManualRng, ScriptedActor, Step

if TYPE_CHECKING:
    from trio.testing import MockClock

CRASH = ValueError("bad")
MANY = SupervisorSpec(intensity=None)


async def deaf(ctx: ActorContext) -> None:
    ctx.started()
    await trio.sleep_forever()


async def stubborn(ctx: ActorContext) -> None:
    ctx.started()
    with trio.CancelScope(shield=True):
        await trio.sleep(10)


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_children_stop_one_by_one_in_reverse_however_the_end_comes(autojump_clock: MockClock, how: str) -> None:
    """Guards against Trio's own way, which cancels all at once."""
    recorder = EventRecorder()
    children = [
        ChildSpec("checkpoint", ScriptedActor()),
        ChildSpec("sink", deaf, shutdown_s=2.0),
        ChildSpec("source", ScriptedActor([Step(cleanup_s=1.0)])),
    ]
    supervisor = Supervisor("s", SupervisorSpec(), children, on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted, "source")
        if how == "stop":
            supervisor.stop()
        else:
            nursery.cancel_scope.cancel(reason="test")
    stopped = [(e.child, e.at, e.took_s, e.cancelled) for e in recorder.of(ChildStopped)]
    assert stopped == [("source", 1.0, 1.0, False), ("sink", 3.0, 2.0, True), ("checkpoint", 3.0, 0.0, False)]


async def test_an_owner_may_ask_children_at_once_and_then_stop_them_in_order(autojump_clock: MockClock) -> None:
    """Guards against graces that add up, and against a stop whose beginning nobody knows."""
    recorder, contexts = EventRecorder(), []

    async def slow(ctx: ActorContext) -> None:
        contexts.append(ctx)
        ctx.started()
        await ctx.stopping.wait()
        await trio.sleep(3)

    children = [ChildSpec("a", slow, shutdown_s=4.0), ChildSpec("b", slow, shutdown_s=4.0), ChildSpec("c", slow)]
    supervisor = Supervisor("s", MANY, children, on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted, "c")
        for ctx in contexts:
            ctx.ask_to_stop(trio.current_time() + 4.0)
        supervisor.stop()
    # They end in any order.
    stopped = {e.child: (e.at, e.took_s, e.cancelled) for e in recorder.of(ChildStopped)}
    assert stopped == dict.fromkeys("abc", (3.0, 3.0, False))


async def test_immediate_cancels_without_grace(autojump_clock: MockClock) -> None:
    """Guards against a grace nobody asked for."""
    recorder = EventRecorder()
    supervisor = Supervisor("s", MANY, [ChildSpec("a", deaf, shutdown_s=IMMEDIATE)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted)
        supervisor.stop()
    assert (recorder.of(ChildStopped)[0].took_s, recorder.of(ChildStopped)[0].cancelled) == (0.0, True)


async def test_a_child_that_outlives_its_cancellation_is_named_with_its_stack(autojump_clock: MockClock) -> None:
    """Guards against a shutdown that hangs without saying where."""
    recorder = EventRecorder()

    async def run(ctx: ActorContext) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn, ctx)
            await trio.sleep_forever()

    supervisor = Supervisor("s", MANY, [ChildSpec("a", run, shutdown_s=2.0)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted)
        supervisor.stop()
        late = await recorder.wait_for(StopTimedOut)
        assert supervisor.statistics().children[0].state == "stopping"
    assert (late.at, late.waited_s) == (3.0, 1.0)
    assert "in stubborn" in late.stack
    assert [(event.at, event.waited_s) for event in recorder.of(StopTimedOut)] == [(3.0, 1.0), (5.0, 3.0), (9.0, 7.0)]
    assert recorder.of(ChildStopped)[0].at == 10.0


async def test_a_failure_during_cleanup_is_kept_and_not_restarted(autojump_clock: MockClock) -> None:
    """Guards against a drain that failed and looks like one that did not."""

    async def run(ctx: ActorContext) -> None:
        ctx.started()
        await ctx.stopping.wait()
        raise CRASH

    recorder = EventRecorder()
    supervisor = Supervisor("s", MANY, [ChildSpec("a", run)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted)
        supervisor.stop()
    assert recorder.of(ChildStopped)[0].error is CRASH
    assert supervisor.statistics().children[0].state == "failed"
    assert len(recorder.of(ChildStarted)) == 1


async def test_a_crash_while_a_stop_is_on_is_reported_and_not_restarted(autojump_clock: MockClock) -> None:
    """Guards against children that come up again behind the back of a shutdown."""
    recorder = EventRecorder()
    children = [
        ChildSpec("b", ScriptedActor([Step(CRASH, 1.0)])),
        ChildSpec("a", ScriptedActor([Step(cleanup_s=5.0)])),
    ]
    supervisor = Supervisor("s", MANY, children, on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted, "a")
        supervisor.stop()
    assert recorder.of(ChildCrashed, "b")[0].error is CRASH
    assert len(recorder.of(ChildStarted, "b")) == 1


async def test_no_stall_is_seen_once_the_grace_runs(autojump_clock: MockClock) -> None:
    """Guards against a slow flush at the end that is taken for a hang."""

    async def run(ctx: ActorContext) -> None:
        ctx.started()
        await ctx.stopping.wait()
        with ctx.waiting("the flush"):
            await trio.sleep(3)
        ctx.beat()
        await trio.sleep(3)

    recorder = EventRecorder()
    child = ChildSpec("a", run, stall_after_s=1000.0, shutdown_s=10.0)
    supervisor = Supervisor("s", MANY, [child], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(999)
        supervisor.stop()
    assert recorder.of(Stalled) == []
    assert (recorder.of(ChildStopped)[0].took_s, recorder.of(ChildStopped)[0].cancelled) == (6.0, False)


async def test_a_child_without_beats_is_cancelled_and_restarted(autojump_clock: MockClock) -> None:
    """Guards against a hang that only a human would notice."""
    recorder = EventRecorder()

    async def run(ctx: ActorContext) -> None:
        ctx.beat()
        ctx.started()
        for _ in range(5):
            await trio.sleep(0.9)
            ctx.beat()
        with ctx.waiting("the network"), ctx.waiting("kafka"):
            ctx.beat()
            await trio.sleep(100)
        await trio.sleep_forever()

    supervisor = Supervisor("s", MANY, [ChildSpec("a", run, stall_after_s=1.0)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(50)
        waiting = supervisor.statistics().children[0]
        assert (waiting.state, waiting.waiting_for) == ("waiting", "kafka")
        crashed = await recorder.wait_for(ChildCrashed)
        await recorder.wait_for(ChildStarted, count=2)
        supervisor.stop()
    assert isinstance(crashed.error, StallDetected)
    assert crashed.at == 105.5
    assert str(recorder.of(Stalled)[0]) == "s/a was silent for 1 s"


async def test_an_idle_reader_of_a_mailbox_is_waiting_and_a_busy_one_beats(autojump_clock: MockClock) -> None:
    """Guards against an actor that is restarted because nobody sent it anything."""
    recorder = EventRecorder()
    box: Mailbox[int] = Mailbox(1, name="inbox")

    async def run(ctx: ActorContext) -> None:
        ctx.started()
        async for _ in box:
            await trio.sleep(0.9)

    supervisor = Supervisor("s", MANY, [ChildSpec("a", run, stall_after_s=1.0)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(50)
        assert supervisor.statistics().children[0].waiting_for == "an item in inbox"
        for item in range(10):
            await box.send(item)
        await trio.sleep(50)
        supervisor.stop()
    assert recorder.of(Stalled) == []


async def test_a_hang_that_ignores_its_cancellation_is_reported(autojump_clock: MockClock) -> None:
    """Guards against a stalled worker thread that looks like a running child."""
    recorder = EventRecorder()
    supervisor = Supervisor("s", MANY, [ChildSpec("a", stubborn, stall_after_s=2.0)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        late = await recorder.wait_for(StopTimedOut)
        assert (late.at, supervisor.statistics().children[0].state) == (3.0, "stopping")
        assert (await recorder.wait_for(ChildCrashed)).at == 10.0
        supervisor.stop()


def pipeline(boxes: list[Mailbox[int]], done: list[int]) -> list[ChildSpec]:
    """Checkpoint, sink, stage and source, started downstream first."""

    async def source(ctx: ActorContext) -> None:
        await trio.lowlevel.checkpoint()
        ctx.started()
        number = 0
        while not ctx.stopping.is_set():
            await boxes[0].send(number)
            number += 1
            await trio.sleep(0.1)
        if ctx.draining:
            boxes[0].close()

    async def stage(ctx: ActorContext) -> None:
        ctx.started()
        async for item in boxes[0]:
            await boxes[1].send(item)
        boxes[1].close()

    async def sink(ctx: ActorContext) -> None:
        ctx.started()
        async for item in boxes[1]:
            await trio.sleep(0.5)
            done.append(item)

    sinks = Supervisor("sinks", MANY, [ChildSpec("sink", sink, restart=Restart.TRANSIENT, return_is_crash=True)])
    values = {"restart": Restart.TRANSIENT, "return_is_crash": True, "sibling_shutdown_s": 1.0}
    return [
        ChildSpec("checkpoint", ScriptedActor()),
        sinks.child_spec(),
        ChildSpec("stage", stage, **values),  # type: ignore[arg-type]
        ChildSpec("source", source, **values),  # type: ignore[arg-type]
    ]


async def test_a_drain_loses_nothing_that_was_accepted(autojump_clock: MockClock) -> None:
    """Guards against a graceful stop that throws away what is under way."""
    boxes: list[Mailbox[int]] = [Mailbox(4), Mailbox(4)]
    done: list[int] = []
    recorder = EventRecorder()
    inner = Supervisor("p", SupervisorSpec(Strategy.REST_FOR_ONE), pipeline(boxes, done))
    root = Supervisor("root", SupervisorSpec(), [inner.child_spec()], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(10)
        root.stop()
    assert len(done) > 15
    assert done == list(range(len(done)))
    assert boxes[0].statistics().buffered == boxes[1].statistics().buffered == 0
    assert recorder.of(ChildCrashed) == []
    # The sink ended by itself, in the flow; the checkpoint was the last to be stopped.
    assert [e.child for e in recorder.of(ChildStopped)][-2:] == ["checkpoint", "p"]
    ended = [e.child for e in recorder.events if isinstance(e, ChildStopped | ChildExited)]
    assert ended.index("source") < ended.index("stage") < ended.index("sink") < ended.index("checkpoint")


async def test_a_stop_for_a_restart_is_no_drain(autojump_clock: MockClock) -> None:
    """Guards against a mailbox that is closed for good by a stage that only restarts."""
    boxes: list[Mailbox[int]] = [Mailbox(4), Mailbox(4)]
    recorder = EventRecorder()
    children = pipeline(boxes, [])
    children[0] = ChildSpec("checkpoint", ScriptedActor([Step(CRASH, 5.0)]))
    supervisor = Supervisor("p", SupervisorSpec(Strategy.REST_FOR_ONE), children, on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted, "source", count=2)
        assert not boxes[0].closed
        supervisor.stop()
    assert boxes[1].closed


async def test_while_the_tree_drains_nobody_below_is_restarted(autojump_clock: MockClock) -> None:
    """Guards against a sink that comes up again while everything above it is already gone."""
    recorder = EventRecorder()
    inner = Supervisor("in", MANY, [ChildSpec("sink", ScriptedActor([Step(CRASH, 1.0)]))])
    root = Supervisor(
        "root",
        SupervisorSpec(),
        [inner.child_spec(), ChildSpec("slow", ScriptedActor([Step(cleanup_s=5.0)]))],
        on_event=recorder,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await recorder.wait_for(ChildStarted, "slow")
        root.stop()
    assert recorder.of(ChildCrashed, "sink")[0].at == 1.0
    assert len(recorder.of(ChildStarted, "sink")) == 1


async def test_an_escalation_below_is_a_crash_above(autojump_clock: MockClock) -> None:
    """Guards against the way of OTP, where a transient supervisor that gave up would not be restarted."""
    recorder = EventRecorder()
    crash = ScriptedActor([Step(CRASH, 1.0)])
    inner = Supervisor("in", SupervisorSpec(intensity=0), [ChildSpec("a", crash), ChildSpec("b", ScriptedActor())])
    root = Supervisor(
        "root", SupervisorSpec(), [inner.child_spec(restart=Restart.TRANSIENT)], on_event=recorder, rng=ManualRng(0)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await recorder.wait_for(ChildStarted, "in", count=2)
        nested = root.statistics().children[0]
        root.stop()
    assert isinstance(recorder.of(ChildCrashed, "in")[0].error, RestartIntensityExceeded)
    assert nested.restarts == 1
    assert nested.children is not None
    assert [(child.id, child.state, child.restarts) for child in nested.children] == [
        ("a", "running", 0),
        ("b", "running", 0),
    ]
    assert recorder.of(ChildStarted, "a")[0].supervisor == "root/in"


async def test_a_hook_of_its_own_keeps_a_subtrees_events_from_the_one_above(autojump_clock: MockClock) -> None:
    """Guards against events that are reported twice."""
    above, below = EventRecorder(), EventRecorder()
    inner = Supervisor("in", MANY, [ChildSpec("a", ScriptedActor())], on_event=below)
    root = Supervisor("root", MANY, [inner.child_spec()], on_event=above)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await above.wait_for(ChildStarted, "in")
        root.stop()
    assert {e.child for e in below.events} == {"a"}
    assert {e.child for e in above.events} == {"in"}


@pytest.mark.parametrize("grace_s", [IMMEDIATE, 3.0])
async def test_a_supervisor_whose_grace_is_over_gives_none_to_its_children(
    autojump_clock: MockClock, grace_s: float
) -> None:
    """Guards against a subtree that takes the sum of its graces although it was given less."""
    recorder = EventRecorder()
    inner = Supervisor("in", MANY, [ChildSpec("a", deaf, shutdown_s=60.0), ChildSpec("b", deaf, shutdown_s=60.0)])
    root = Supervisor("root", MANY, [inner.child_spec(shutdown_s=grace_s)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await recorder.wait_for(ChildStarted, "in")
        root.stop()
    assert [(e.child, e.at) for e in recorder.of(ChildStopped)] == [("b", grace_s), ("a", grace_s), ("in", grace_s)]
    assert root.shutdown_budget_s == grace_s


async def test_a_crash_while_the_supervisor_gives_up_changes_nothing(autojump_clock: MockClock) -> None:
    """Guards against a second verdict that hides the first."""
    recorder = EventRecorder()
    children = [
        ChildSpec("late", ScriptedActor([Step(CRASH, 2.0)])),
        ChildSpec("first", ScriptedActor([Step(CRASH, 1.0)])),
        ChildSpec("slow", ScriptedActor([Step(cleanup_s=3.0)])),
    ]
    with pytest.raises(RestartIntensityExceeded) as caught:
        await Supervisor("s", SupervisorSpec(intensity=0), children, on_event=recorder).run()
    assert caught.value.child == "s/first"
    assert [e.child for e in recorder.of(ChildCrashed)] == ["first", "late"]
    assert [e.child for e in recorder.events if isinstance(e, Escalated | ChildRestarting)] == ["first"]


@pytest.mark.parametrize(("restarted", "for_good"), [(True, [False, True]), (False, [True])])
async def test_only_a_stop_that_nobody_restarts_is_a_drain(
    autojump_clock: MockClock, restarted: bool, for_good: list[bool]
) -> None:
    """Guards against mailboxes closed by a subtree that gave up and is started again."""
    drains: list[bool] = []

    async def stage(ctx: ActorContext) -> None:
        ctx.started()
        await ctx.stopping.wait()
        drains.append(ctx.draining)

    crash = ScriptedActor([Step(CRASH, 1.0)] if restarted else [])
    inner = Supervisor("in", SupervisorSpec(intensity=0), [ChildSpec("a", crash), ChildSpec("b", stage)])
    root = Supervisor("root", MANY, [inner.child_spec()])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(root.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel(reason="test")
    assert drains == for_good
