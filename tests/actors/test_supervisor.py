"""One supervisor: start, restart, strategies, limits and statistics. All in virtual time."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from actors import (
    IMMEDIATE,
    ActorContext,
    ActorsError,
    AutoShutdown,
    AutoShutdownTriggered,
    Backoff,
    ChildCrashed,
    ChildExited,
    ChildRestarting,
    ChildRetrying,
    ChildSpec,
    ChildStarted,
    ChildStopped,
    Escalate,
    Escalated,
    Restart,
    RestartIntensityExceeded,
    Retry,
    Shutdown,
    Strategy,
    Supervisor,
    SupervisorSpec,
    UnexpectedCancellation,
    UnexpectedReturn,
)
from actors.testing import HOLD, EventRecorder, ManualRng, ScriptedActor, Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

CRASH = ValueError("bad")
MANY = SupervisorSpec(intensity=None)


class Tree:
    """A supervisor of scripted actors and all that is seen of it."""

    def __init__(self, spec: SupervisorSpec = MANY) -> None:
        self.spec = spec
        self.trace: list[tuple[str, str]] = []
        self.recorder = EventRecorder()
        self.rng = ManualRng()
        self.children: list[ChildSpec] = []

    def child(self, id: str, *script: Step, **values: Any) -> Tree:
        self.children.append(ChildSpec(id, ScriptedActor(script, self.trace), **values))
        return self

    def build(self, **values: Any) -> Supervisor:
        self.supervisor = Supervisor("s", self.spec, self.children, on_event=self.recorder, rng=self.rng, **values)
        return self.supervisor

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Supervisor]:
        supervisor = self.build()
        with trio.fail_after(10_000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.run)
                await trio.testing.wait_all_tasks_blocked()
                yield supervisor
                supervisor.stop()

    async def run(self) -> None:
        with trio.fail_after(10_000):
            await self.build().run()

    def states(self) -> dict[str, str]:
        return {child.id: child.state for child in self.supervisor.statistics().children}

    def order(self) -> str:
        """The trace as text: +a started, -a ended."""
        return " ".join({"start": "+", "end": "-"}[verb] + id for verb, id in self.trace)


async def test_children_start_in_order_each_after_the_one_before_is_ready(autojump_clock: MockClock) -> None:
    """Guards against a consumer that starts before what it consumes from."""
    order: list[str] = []

    def slow(id: str) -> ChildSpec:
        async def run(ctx: ActorContext) -> None:
            order.append(f"{id} begins")
            await trio.sleep(1)
            ctx.started()
            ctx.started()
            order.append(f"{id} ready")
            await ctx.stopping.wait()

        return ChildSpec(id, run)

    recorder = EventRecorder()
    supervisor = Supervisor("s", MANY, [slow("a"), slow("b")], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        started = await recorder.wait_for(ChildStarted, "b")
        supervisor.stop()
    assert order == ["a begins", "a ready", "b begins", "b ready"]
    assert (started.attempt, started.took_s, started.at) == (0, 1.0, 2.0)
    assert len(recorder.of(ChildStarted)) == 2


async def test_a_crashed_child_comes_back_alone(autojump_clock: MockClock) -> None:
    """Guards against a crash that spreads to siblings."""
    tree = Tree().child("a").child("b", Step(CRASH, 1.0)).child("c")
    async with tree.running() as supervisor:
        await tree.recorder.wait_for(ChildStarted, "b", count=2)
        assert tree.order() == "+a +b +c -b +b"
        b = supervisor.statistics().children[1]
        assert (b.state, b.restarts, b.retries, b.last_error) == ("running", 1, 0, "ValueError: bad")
        assert supervisor.error_of("b") is CRASH
        assert supervisor.error_of("a") is None
    with pytest.raises(KeyError):
        supervisor.error_of("x")


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        (Strategy.ONE_FOR_ONE, "-b +b"),
        (Strategy.REST_FOR_ONE, "-b -d -c +b +c +d"),
        (Strategy.ONE_FOR_ALL, "-b -d -c -a +a +b +c +d"),
    ],
)
async def test_the_strategy_decides_who_restarts_with_it(
    autojump_clock: MockClock, strategy: Strategy, order: str
) -> None:
    """Guards against siblings that go on with a state that no longer fits."""
    tree = Tree(SupervisorSpec(strategy, intensity=1)).child("a").child("b", Step(CRASH, 1.0)).child("c").child("d")
    async with tree.running():
        await tree.recorder.wait_for(ChildStarted, "b", count=2)
        await trio.sleep(1)
        assert tree.order() == f"+a +b +c +d {order}"
        assert set(tree.states().values()) == {"running"}
    restarting = tree.recorder.of(ChildRestarting)
    assert [event.counted for event in restarting] == [True]
    assert "".join(restarting[0].group) == "".join(sorted({each[1] for each in order.split()}))


async def test_a_temporary_sibling_stopped_with_its_group_is_gone_for_good(autojump_clock: MockClock) -> None:
    """Guards against restarting what was promised never to be restarted."""
    tree = Tree(SupervisorSpec(Strategy.ONE_FOR_ALL)).child("a").child("b", restart=Restart.TEMPORARY)
    tree.child("c", Step(CRASH, 1.0))
    async with tree.running():
        await tree.recorder.wait_for(ChildStarted, "c", count=2)
        assert tree.order() == "+a +b +c -c -b -a +a +c"
        assert tree.states() == {"a": "running", "b": "stopped", "c": "running"}


async def test_a_child_that_ended_normally_stays_away_when_its_group_restarts(autojump_clock: MockClock) -> None:
    """Guards against a finished job that runs again because of somebody else's crash."""
    tree = Tree(SupervisorSpec(Strategy.ONE_FOR_ALL))
    tree.child("job", Step(after_s=0.5), restart=Restart.TRANSIENT).child("c", Step(CRASH, 1.0))
    async with tree.running():
        await tree.recorder.wait_for(ChildStarted, "c", count=2)
        assert tree.order() == "+job +c -job -c +c"
    assert [event.reason for event in tree.recorder.of(ChildExited, "job")] == ["returned"]


async def test_siblings_may_have_a_shorter_grace_for_a_restart_than_for_the_end(autojump_clock: MockClock) -> None:
    """Guards against a restart that waits out the grace of stages with nothing left to save."""

    async def deaf(ctx: ActorContext) -> None:
        ctx.started()
        await trio.sleep_forever()

    recorder = EventRecorder()
    crash = ScriptedActor([Step(CRASH, 1.0)])
    children = [ChildSpec("a", crash), ChildSpec("b", deaf, shutdown_s=60.0, sibling_shutdown_s=IMMEDIATE)]
    supervisor = Supervisor("s", SupervisorSpec(Strategy.REST_FOR_ONE), children, on_event=recorder, rng=ManualRng(0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        assert (await recorder.wait_for(ChildStarted, "b", count=2)).at == 1.0
        supervisor.stop()
    first, last = recorder.of(ChildStopped, "b")
    assert (first.took_s, first.cancelled) == (0.0, True)
    assert (last.took_s, last.cancelled) == (60.0, True)


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_one_failure_more_than_allowed_stops_all_in_reverse_and_raises(
    autojump_clock: MockClock, strategy: Strategy
) -> None:
    """Guards against an endless crash loop, and a give-up that hides its causes."""
    tree = Tree(SupervisorSpec(strategy, intensity=2, period_s=60.0)).child("a")
    errors = [ValueError(str(number)) for number in range(3)]
    tree.child("b", *[Step(error, 1.0) for error in errors]).child("c")
    with pytest.raises(RestartIntensityExceeded) as caught:
        await tree.run()
    assert caught.value.child == "s/b"
    assert list(caught.value.causes.exceptions) == errors
    assert str(caught.value) == "s/b: failed 3 times within 60 s, 2 allowed; last failure: ValueError: 2"
    assert tree.order().endswith("-b -c -a")
    assert tree.states() == {"a": "stopped", "b": "failed", "c": "stopped"}
    assert tree.recorder.of(Escalated)[0].error is caught.value


async def test_a_permanent_child_must_not_return(autojump_clock: MockClock) -> None:
    """Guards against a worker that is silently missing."""
    tree = Tree(SupervisorSpec(intensity=1)).child("a", Step(after_s=1.0), Step(Shutdown(), 1.0))
    with pytest.raises(RestartIntensityExceeded) as caught:
        await tree.run()
    assert [type(cause) for cause in caught.value.causes.exceptions] == [UnexpectedReturn, Shutdown]


async def test_failures_in_a_row_escalate_and_a_stable_run_forgives_them(autojump_clock: MockClock) -> None:
    """Guards against a slow crash loop, and against summing up the crashes of a year."""
    backoff = Backoff(base_s=1.0, cap_s=8.0, reset_after_s=50.0)
    tree = Tree(SupervisorSpec(intensity=None, max_consecutive=2))
    tree.child("a", *[Step(CRASH, after_s) for after_s in (1, 1, 50, 1, 1)], backoff=backoff)
    with pytest.raises(RestartIntensityExceeded, match="3 times in a row"):
        await tree.run()
    # After the stable run the backoff begins anew as well.
    assert tree.rng.asked == [(0.0, 1.0), (0.0, 2.0), (0.0, 1.0), (0.0, 2.0)]


async def test_a_retry_waits_exactly_as_long_as_asked_and_is_not_counted(autojump_clock: MockClock) -> None:
    """Guards against a pipeline that gives up because a server is away."""
    tree = Tree(SupervisorSpec(intensity=0)).child("a", *[Step(Retry(7.0, "away"), 1.0)] * 5)
    async with tree.running() as supervisor:
        assert (await tree.recorder.wait_for(ChildStarted, "a", count=6)).at == 40.0
        a = supervisor.statistics().children[0]
        assert (a.restarts, a.retries, a.last_error) == (0, 5, "Retry: away")
    assert tree.rng.asked == []
    assert [event.delay_s for event in tree.recorder.of(ChildRestarting)] == [7.0] * 5
    assert {event.reason for event in tree.recorder.of(ChildRetrying)} == {"away"}


@pytest.mark.parametrize("error", [CRASH, Retry(1.0), Escalate(CRASH)])
async def test_a_temporary_child_is_dropped_and_reported(autojump_clock: MockClock, error: Exception) -> None:
    """Guards against one bad pipeline that takes the others down."""
    tree = Tree(SupervisorSpec(intensity=0)).child("a", Step(error, 1.0), restart=Restart.TEMPORARY).child("b")
    async with tree.running() as supervisor:
        await trio.sleep(10)
        assert tree.states() == {"a": "failed", "b": "running"}
        assert supervisor.error_of("a") is error
    assert tree.order() == "+a +b -a -b"


async def test_an_escalation_skips_the_window_and_carries_its_cause(autojump_clock: MockClock) -> None:
    """Guards against restarting what no restart can cure."""
    tree = Tree(SupervisorSpec(intensity=100, period_s=1e6)).child("a").child("b", Step(Escalate(CRASH), 1.0))
    with pytest.raises(Escalate) as caught:
        await tree.run()
    assert caught.value.cause is CRASH
    assert tree.order() == "+a +b -b -a"
    assert tree.supervisor.statistics().children[1].last_error == "ValueError: bad"


async def test_a_stage_that_returns_without_a_stop_has_crashed(autojump_clock: MockClock) -> None:
    """Guards against a pipeline with a hole in the middle."""
    tree = Tree().child("a", Step(after_s=1.0), restart=Restart.TRANSIENT, return_is_crash=True)
    async with tree.running():
        crashed = await tree.recorder.wait_for(ChildCrashed)
        assert isinstance(crashed.error, UnexpectedReturn)
        await tree.recorder.wait_for(ChildStarted, count=2)
    assert tree.states() == {"a": "stopped"}


async def test_a_child_cancelled_by_somebody_else_has_crashed(autojump_clock: MockClock) -> None:
    """Guards against a child that disappears without an error."""
    contexts: list[ActorContext] = []

    async def run(ctx: ActorContext) -> None:
        contexts.append(ctx)
        ctx.started()
        await trio.sleep_forever()

    recorder = EventRecorder()
    child = ChildSpec("a", run, restart=Restart.TRANSIENT, shutdown_s=IMMEDIATE)
    supervisor = Supervisor("s", MANY, [child], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted)
        contexts[0].cancel("fault injection")
        await recorder.wait_for(ChildStarted, count=2)
        supervisor.stop()
    crash = recorder.of(ChildCrashed)[0]
    assert isinstance(crash.error, UnexpectedCancellation)
    assert "fault injection" in str(crash.error)
    assert [ctx.attempt for ctx in contexts] == [0, 1]


async def test_a_cancellation_raised_out_of_its_time_is_a_crash(autojump_clock: MockClock) -> None:
    """Guards against a kept Cancelled that would end the whole tree without a trace."""
    kept: list[BaseException] = []

    async def run(ctx: ActorContext) -> None:
        ctx.started()
        if ctx.attempt:
            await ctx.stopping.wait()
            return
        with trio.move_on_after(0):
            try:
                await trio.sleep_forever()
            except trio.Cancelled as error:
                kept.append(error)
                raise
        raise kept[0]

    recorder = EventRecorder()
    supervisor = Supervisor("s", MANY, [ChildSpec("a", run)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await recorder.wait_for(ChildStarted, count=2)
        supervisor.stop()
    assert isinstance(recorder.of(ChildCrashed)[0].error, UnexpectedCancellation)


async def test_a_keyboard_interrupt_passes_through_and_nothing_is_restarted(autojump_clock: MockClock) -> None:
    """Guards against a supervisor that restarts what the operator wants to end."""
    tree = Tree().child("a")

    async def interrupted(ctx: ActorContext) -> None:
        ctx.started()
        await trio.sleep(1)
        raise KeyboardInterrupt

    tree.children.append(ChildSpec("b", interrupted))
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await tree.run()
    assert tree.order() == "+a -a"


@pytest.mark.parametrize(
    ("auto", "ended_at"), [(AutoShutdown.ANY_SIGNIFICANT, 1.0), (AutoShutdown.ALL_SIGNIFICANT, 2.0)]
)
async def test_the_end_of_significant_children_ends_the_supervisor(
    autojump_clock: MockClock, auto: AutoShutdown, ended_at: float
) -> None:
    """Guards against a finished job whose helpers run for ever."""
    tree = Tree(SupervisorSpec(auto_shutdown=auto)).child("helper")
    tree.child("early", Step(after_s=0.5), restart=Restart.TRANSIENT)
    tree.child("one", Step(after_s=1.0), restart=Restart.TRANSIENT, significant=True)
    tree.child("two", Step(CRASH, after_s=2.0), restart=Restart.TEMPORARY, significant=True)
    start = trio.current_time()
    await tree.run()
    assert trio.current_time() - start == ended_at
    assert tree.recorder.of(AutoShutdownTriggered)[0].child == ("one" if ended_at == 1.0 else "two")


async def test_a_significant_child_stopped_by_its_supervisor_does_not_end_it(autojump_clock: MockClock) -> None:
    """Guards against an auto-shutdown caused by a sibling's crash."""
    tree = Tree(SupervisorSpec(Strategy.ONE_FOR_ALL, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT))
    tree.child("a", Step(CRASH, 1.0)).child("b", restart=Restart.TRANSIENT, significant=True)
    async with tree.running():
        await tree.recorder.wait_for(ChildStarted, "b", count=2)
    assert tree.recorder.of(AutoShutdownTriggered) == []


async def test_a_backoff_is_jittered_by_the_given_generator(autojump_clock: MockClock) -> None:
    """Guards against children that all come back in the same moment."""
    tree = Tree().child("a", Step(CRASH, 1.0), backoff=Backoff(base_s=4.0, cap_s=4.0))
    tree.rng.fraction = 0.5
    async with tree.running():
        restarting = await tree.recorder.wait_for(ChildRestarting)
        assert restarting.delay_s == 2.0
        await trio.sleep(1)
        assert tree.states() == {"a": "backoff"}
        assert (await tree.recorder.wait_for(ChildStarted, count=2)).at == 3.0


async def test_a_stop_interrupts_a_backoff_at_once(autojump_clock: MockClock) -> None:
    """Guards against a shutdown that waits for a restart nobody wants any more."""
    tree = Tree().child("a").child("b", Step(Retry(9_999.0), 1.0))
    async with tree.running():
        await tree.recorder.wait_for(ChildRestarting)
        await trio.sleep(1)
    assert trio.current_time() < 3
    assert tree.states() == {"a": "stopped", "b": "stopped"}


async def test_a_second_crash_during_a_group_restart_is_counted_and_joins_it(autojump_clock: MockClock) -> None:
    """Guards against two restarts of one group at a time, and a failure that is counted twice or not at all."""
    tree = Tree(SupervisorSpec(Strategy.REST_FOR_ONE, intensity=3, period_s=100.0))
    tree.child("a", Step(CRASH, 1.5)).child("b", Step(CRASH, 1.0)).child("c", HOLD, Step(CRASH, 0.0, ready=False))
    backoff = {"b": 1.0, "c": 1.0, "a": 1.0}
    tree.children = [
        ChildSpec(each.id, each.run, backoff=Backoff(base_s=backoff[each.id], cap_s=1.0)) for each in tree.children
    ]
    async with tree.running():
        await tree.recorder.wait_for(ChildStarted, "c", count=2)
        # b fails, its group waits; a fails and takes the wait over; c fails in its start; all count.
        assert tree.order() == "+a +b +c -b -c -a +a +b +c -c +c"
        assert [e.child for e in tree.recorder.of(ChildRestarting) if e.counted] == ["b", "a", "c"]
        assert "".join(tree.recorder.of(ChildRestarting)[2].group) == "c"


async def test_a_child_ready_in_the_moment_its_group_is_restarted_is_stopped_with_it(autojump_clock: MockClock) -> None:
    """Guards against a job that goes on launching children another job has taken over."""
    tree = Tree(SupervisorSpec(Strategy.ONE_FOR_ALL, intensity=5, period_s=100.0))
    tree.rng.fraction = 0.0
    tree.child("a", HOLD, Step(CRASH, 1.0))

    async def slow(ctx: ActorContext) -> None:
        await trio.sleep(1.0)
        ctx.started()
        await ctx.stopping.wait()

    tree.children.append(ChildSpec("b", slow))
    tree.child("c", Step(CRASH, 1.0))
    async with tree.running():
        await trio.sleep(100)
        assert set(tree.states().values()) == {"running"}
    assert len(tree.recorder.of(ChildRestarting)) == 2


async def test_a_job_taken_over_launches_nobody_any_more(autojump_clock: MockClock) -> None:
    """Guards against a sibling that is started only to be stopped in the same moment."""
    tree = Tree(SupervisorSpec(Strategy.ONE_FOR_ALL)).child("a")

    async def ready_and_gone(ctx: ActorContext) -> None:
        ctx.started()
        if ctx.attempt == 0:
            raise CRASH
        await ctx.stopping.wait()

    tree.children.append(ChildSpec("b", ready_and_gone))
    tree.child("c")
    async with tree.running():
        await tree.recorder.wait_for(ChildStarted, "c")
        assert tree.order() == "+a -a +a +c"


async def test_a_finite_child_may_end_without_ever_being_ready(autojump_clock: MockClock) -> None:
    """Guards against a start that hangs on a job which was done at once."""
    tree = Tree().child("job", Step(after_s=0.0, ready=False), restart=Restart.TRANSIENT).child("b")
    async with tree.running():
        await tree.recorder.wait_for(ChildStarted, "b")
        assert tree.states() == {"job": "stopped", "b": "running"}


async def test_a_context_variable_of_one_child_is_not_seen_by_another(autojump_clock: MockClock) -> None:
    """Guards against log contexts that travel with a crash into the restarted siblings."""
    variable: ContextVar[str] = ContextVar("variable", default="clean")
    seen: list[str] = []

    async def run(ctx: ActorContext) -> None:
        seen.append(variable.get())
        variable.set(ctx.path)
        ctx.started()
        if ctx.id == "b":
            await ctx.stopping.wait()
            return
        await trio.sleep(1)
        raise CRASH

    supervisor = Supervisor("s", SupervisorSpec(Strategy.ONE_FOR_ALL), [ChildSpec("a", run), ChildSpec("b", run)])
    with pytest.raises(RestartIntensityExceeded):
        await supervisor.run()
    assert seen == ["clean"] * 4


async def test_a_hook_that_fails_takes_nobody_down(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Guards against a full disk under the log that ends the data flow."""

    def hook(event: object) -> None:
        raise CRASH

    supervisor = Supervisor("s", MANY, [ChildSpec("a", ScriptedActor())], on_event=hook)
    with caplog.at_level(logging.ERROR):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            await trio.testing.wait_all_tasks_blocked()
            assert supervisor.statistics().children[0].state == "running"
            supervisor.stop()
    assert "event hook of supervisor s failed" in caplog.text


async def test_a_supervisor_without_a_hook_is_silent_and_runs_again_after_its_end(autojump_clock: MockClock) -> None:
    """Guards against state of one run that leaks into the next."""
    actor = ScriptedActor([Step(CRASH, 1.0)] * 4)
    supervisor = Supervisor("s", SupervisorSpec(), [ChildSpec("a", actor)])
    for _ in range(2):
        with pytest.raises(RestartIntensityExceeded):
            await supervisor.run()
        assert supervisor.statistics().children[0].restarts == 1


async def test_a_supervisor_runs_once_at_a_time(autojump_clock: MockClock) -> None:
    """Guards against two sets of children that share one record."""
    tree = Tree().child("a")
    async with tree.running() as supervisor:
        with pytest.raises(ActorsError, match="runs already"):
            await supervisor.run()


async def test_a_supervisor_without_children_waits_for_its_stop(autojump_clock: MockClock) -> None:
    """Guards against a special case that nobody thought of."""
    async with Tree().running() as supervisor:
        assert supervisor.statistics().children == ()
        assert supervisor.shutdown_budget_s == 0


async def test_a_stop_before_the_run_ends_it_at_once(autojump_clock: MockClock) -> None:
    """Guards against a signal that comes too early and is forgotten."""
    tree = Tree().child("a")
    tree.build().stop()
    with trio.fail_after(1):
        await tree.supervisor.run()
    assert tree.trace == []
