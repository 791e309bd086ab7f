"""The tools for users' tests."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import ActorContext, ChildExited, ChildSpec, ChildStarted, Supervisor, SupervisorSpec, current_actor
from actors.actor import beat_here, waiting_here
from actors.testing import EventRecorder, ManualRng, ScriptedActor, given_schedules


async def test_a_recorder_finds_past_and_future_events(autojump_clock: trio.testing.MockClock) -> None:
    """Guards against tests that hang because the event came before they waited."""
    recorder = EventRecorder()
    supervisor = Supervisor("s", SupervisorSpec(), [ChildSpec(id, ScriptedActor()) for id in "ab"], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        first = await recorder.wait_for(ChildStarted)
        second = await recorder.wait_for(ChildStarted, count=2)
        assert (first.child, second.child) == ("a", "b")
        assert await recorder.wait_for(ChildStarted, "b") is second
        assert recorder.of(ChildExited) == []
        supervisor.stop()


def test_the_manual_generator_repeats_its_fraction_and_remembers() -> None:
    """Guards against a jitter that cannot be tested."""
    rng = ManualRng(0.25)
    assert rng.uniform(0.0, 4.0) == 1.0
    assert rng.asked == [(0.0, 4.0)]


def test_schedules_vary_where_plain_given_repeats_one() -> None:
    """Guards against properties of concurrency that are only ever tried in one order."""

    async def order() -> tuple[int, ...]:
        seen: list[int] = []

        async def note(number: int) -> None:
            seen.append(number)
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(note, number)
        return tuple(seen)

    varied: set[tuple[int, ...]] = set()
    plain: set[tuple[int, ...]] = set()

    @settings(max_examples=30, database=None)
    @given_schedules(number=st.integers())
    async def with_schedules(number: int) -> None:
        varied.add(await order())

    @settings(max_examples=30, database=None)
    @given(st.integers())
    def without(number: int) -> None:
        plain.add(trio.run(order))

    with_schedules()
    without()
    assert len(varied) > 5 >= len(plain)


def test_outside_of_any_actor_waits_and_beats_are_nobodys() -> None:
    """Guards against mailboxes that work only below a supervisor."""
    assert current_actor() is None
    beat_here()
    with waiting_here("nothing"):
        pass


async def test_a_context_can_stand_alone() -> None:
    """Guards against actors that cannot be tested without a tree."""
    await trio.lowlevel.checkpoint()
    ctx = ActorContext("a")
    ctx.started()
    ctx.beat()
    with ctx.waiting("x"):
        assert ctx.waiting_for == "x"
    assert (ctx.path, ctx.attempt, ctx.draining, ctx.is_started) == ("a", 0, False, True)
    ctx.cancel("test")
    assert ctx.limit.cancel_called
    ctx.emit(ChildExited("s", "a", 0.0, "returned"))


@pytest.mark.parametrize("id", ["a", "b"])
def test_a_property_may_be_parametrized_too(id: str) -> None:
    """Guards against a decorator that swallows the arguments of other tools."""
    seen: list[str] = []

    @settings(max_examples=2, database=None)
    @given_schedules(x=st.integers())
    async def run(x: int) -> None:
        seen.append(id)
        await trio.lowlevel.checkpoint()

    run()
    assert set(seen) == {id}


async def test_a_second_request_to_stop_may_shorten_the_grace_but_not_lengthen_it() -> None:
    """Guards against a stop that begins anew whenever somebody asks again."""
    await trio.lowlevel.checkpoint()
    ctx = ActorContext("a")
    for cancel_at, kept in ((5.0, 5.0), (9.0, 5.0), (2.0, 2.0)):
        ctx.ask_to_stop(cancel_at)
        assert ctx.limit.deadline == kept


async def test_readiness_told_while_waiting_starts_no_limit() -> None:
    """Guards against a stall seen while the actor says what it waits for."""
    await trio.lowlevel.checkpoint()
    ctx = ActorContext("a", stall_after_s=1.0)
    with ctx.waiting("kafka"):
        ctx.started()
        assert ctx.limit.deadline == math.inf
    assert ctx.limit.deadline < math.inf
