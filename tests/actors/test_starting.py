"""First starts: readiness, its limit, and what a failed one does. All in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from actors import (
    ActorContext,
    AutoShutdown,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    Escalate,
    Restart,
    RestartIntensityExceeded,
    Retry,
    Shutdown,
    Stalled,
    StartFailed,
    StartTimedOut,
    Strategy,
    Supervisor,
    SupervisorSpec,
    UnexpectedReturn,
)
from actors.testing import EventRecorder, ManualRng, ScriptedActor, Step

if TYPE_CHECKING:
    from trio.testing import MockClock

CRASH = ValueError("bad")
TRANSIENT, TEMPORARY = Restart.TRANSIENT, Restart.TEMPORARY


async def never_ready(ctx: ActorContext) -> None:
    await ctx.stopping.wait()


@pytest.mark.parametrize(
    ("restart", "error"),
    [
        (Restart.PERMANENT, CRASH),
        (TRANSIENT, CRASH),
        (TEMPORARY, CRASH),
        (TEMPORARY, Retry()),
        (Restart.PERMANENT, None),
        (Restart.PERMANENT, Shutdown()),
    ],
)
async def test_a_failed_first_start_stops_what_was_started_and_fails_the_supervisor(
    autojump_clock: MockClock, restart: Restart, error: Exception | None
) -> None:
    """Guards against half a tree that runs, and against a wrong configuration that is retried."""
    trace: list[tuple[str, str]] = []
    children = [
        ChildSpec("a", ScriptedActor(trace=trace)),
        ChildSpec("b", ScriptedActor([Step(error, 1.0, ready=False)], trace), restart=restart),
        ChildSpec("c", ScriptedActor(trace=trace)),
    ]
    supervisor = Supervisor("s", SupervisorSpec(intensity=100, period_s=1e9), children)
    with pytest.raises(StartFailed) as caught:
        await supervisor.run()
    assert caught.value.child == "s/b"
    assert caught.value.__cause__ is error or isinstance(caught.value.__cause__, UnexpectedReturn)
    assert trace == [("start", "a"), ("start", "b"), ("end", "b"), ("end", "a")]
    assert supervisor.statistics().children[1].state == "failed"
    assert supervisor.statistics().children[2].state == "stopped"


async def test_an_escalation_in_a_first_start_keeps_its_cause(autojump_clock: MockClock) -> None:
    """Guards against an exit code that depends on how early the actor noticed."""
    child = ChildSpec("a", ScriptedActor([Step(Escalate(CRASH), ready=False, after_s=0.0)]), restart=TEMPORARY)
    with pytest.raises(Escalate) as caught:
        await Supervisor("s", SupervisorSpec(), [child]).run()
    assert caught.value.cause is CRASH


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_a_retry_in_a_first_start_is_waited_out(autojump_clock: MockClock, strategy: Strategy) -> None:
    """Guards against a service that must be started again by hand because a server came up later."""
    trace: list[tuple[str, str]] = []
    recorder = EventRecorder()
    script = [Step(Retry(10.0), 1.0, ready=False)] * 2
    children = [
        ChildSpec("a", ScriptedActor(trace=trace)),
        ChildSpec("b", ScriptedActor(script, trace)),
        ChildSpec("c", ScriptedActor(trace=trace)),
    ]
    supervisor = Supervisor("s", SupervisorSpec(strategy, intensity=0), children, on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        assert (await recorder.wait_for(ChildStarted, "c")).at == 22.0
        supervisor.stop()
    assert len(recorder.of(ChildStarted, "c")) == 1


async def test_a_start_failing_during_a_restart_counts_again(autojump_clock: MockClock) -> None:
    """Guards against a restart loop in which only the first failure is counted."""
    script = [Step(CRASH, 1.0), *[Step(CRASH, 0.0, ready=False)] * 5]
    recorder = EventRecorder()
    child = ChildSpec("a", ScriptedActor(script))
    supervisor = Supervisor("s", SupervisorSpec(intensity=2, period_s=60), [child], on_event=recorder)
    with pytest.raises(RestartIntensityExceeded):
        await supervisor.run()
    assert len(recorder.of(ChildRestarting)) == 2


async def test_a_crash_before_the_tree_is_ready_is_handled_while_others_start(autojump_clock: MockClock) -> None:
    """Guards against a start that waits for a sibling nobody restarts."""
    recorder = EventRecorder()
    upstream_back = trio.Event()

    async def upstream(ctx: ActorContext) -> None:
        ctx.started()
        if ctx.attempt == 0:
            await trio.sleep(1)
            raise CRASH
        upstream_back.set()
        await ctx.stopping.wait()

    async def downstream(ctx: ActorContext) -> None:
        await upstream_back.wait()
        ctx.started()
        await ctx.stopping.wait()

    children = [ChildSpec("up", upstream), ChildSpec("down", downstream)]
    supervisor = Supervisor("s", SupervisorSpec(), children, on_event=recorder, rng=ManualRng(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        assert (await recorder.wait_for(ChildStarted, "down")).at == 1.0
        supervisor.stop()


async def test_a_start_has_a_limit_and_waiting_is_free(autojump_clock: MockClock) -> None:
    """Guards against a tree that hangs in its start, and one that fails because a server is slow."""
    recorder = EventRecorder()

    async def run(ctx: ActorContext) -> None:
        with ctx.waiting("the server"):
            await trio.sleep(1000)
        await trio.sleep_forever()

    child = ChildSpec("a", run, start_within_s=5.0)
    with pytest.raises(StartFailed) as caught:
        await Supervisor("s", SupervisorSpec(), [child], on_event=recorder).run()
    assert trio.current_time() == 1005.0
    assert isinstance(caught.value.__cause__, StartTimedOut)
    stalled = recorder.of(Stalled)[0]
    assert stalled.silent_s == 5.0
    assert "in run" in stalled.stack


async def test_a_nested_supervisor_is_ready_when_all_its_children_are(autojump_clock: MockClock) -> None:
    """Guards against a parent that goes on before the subtree works."""

    async def slow(ctx: ActorContext) -> None:
        await trio.sleep(3)
        ctx.started()
        await ctx.stopping.wait()

    finite = ChildSpec("done", ScriptedActor([Step(after_s=4.0, ready=False)]), restart=TRANSIENT)
    inner = Supervisor("in", SupervisorSpec(), [ChildSpec("a", slow), finite])
    recorder = EventRecorder()
    outer = Supervisor("out", SupervisorSpec(), [inner.child_spec()], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outer.run)
        assert (await recorder.wait_for(ChildStarted, "in")).at == 7.0
        outer.stop()


async def test_a_supervisor_ready_at_once_fails_like_any_other_child(autojump_clock: MockClock) -> None:
    """Guards against one pipeline's first start that keeps all others from starting."""
    bad = ChildSpec("a", ScriptedActor([Step(CRASH, 1.0, ready=False)]))
    inner = Supervisor("in", SupervisorSpec(), [bad], ready_at_once=True)
    spec = SupervisorSpec(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT)
    outer = Supervisor("out", spec, [inner.child_spec(restart=TEMPORARY, significant=True)])
    with trio.fail_after(10):
        await outer.run()
    assert isinstance(outer.error_of("in"), StartFailed)
    assert outer.statistics().children[0].state == "failed"


async def test_a_stop_during_the_start_stops_what_was_started(autojump_clock: MockClock) -> None:
    """Guards against a start that cannot be interrupted."""
    trace: list[tuple[str, str]] = []
    children = [ChildSpec("a", ScriptedActor(trace=trace)), ChildSpec("b", never_ready), ChildSpec("c", never_ready)]
    supervisor = Supervisor("s", SupervisorSpec(), children)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.testing.wait_all_tasks_blocked()
        assert [child.state for child in supervisor.statistics().children] == ["running", "starting", "starting"]
        supervisor.stop()
    assert trace == [("start", "a"), ("end", "a")]
    assert [child.state for child in supervisor.statistics().children] == ["stopped"] * 3


async def test_a_child_ready_while_it_is_stopped_is_still_stopping(autojump_clock: MockClock) -> None:
    """Guards against a state that says running while the grace is counted down."""

    async def late(ctx: ActorContext) -> None:
        await ctx.stopping.wait()
        ctx.started()
        await trio.sleep(1)

    recorder = EventRecorder()
    supervisor = Supervisor("s", SupervisorSpec(), [ChildSpec("a", late)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.testing.wait_all_tasks_blocked()
        supervisor.stop()
        await recorder.wait_for(ChildStarted)
        assert supervisor.statistics().children[0].state == "stopping"
