"""Properties of whole supervisors under random crashes and schedules."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
from hypothesis import strategies as st

from actors import (
    Backoff,
    ChildCrashed,
    ChildRestarting,
    ChildSpec,
    ChildStopped,
    Escalated,
    RestartIntensityExceeded,
    RestartWindow,
    Retry,
    Strategy,
    Supervisor,
    SupervisorSpec,
)
from actors.testing import EventRecorder, ManualRng, ScriptedActor, Step, autojump, given_schedules

PERIOD_S = 4.0
CRASH = ValueError("bad")
GAPS = st.sampled_from([0.0, 0.5, 1.0, 3.0])
STEPS = st.builds(
    Step,
    error=st.sampled_from([CRASH, CRASH, Retry(0.5)]),
    after_s=GAPS,
    ready=st.booleans(),
    cleanup_s=st.sampled_from([0.0, 0.0, 0.7]),
)
# A first start that fails ends the supervisor by design, so every script begins with one that does not.
FIRST = st.builds(Step, error=st.just(CRASH), after_s=st.sampled_from([0.5, 1.0, 2.0]), cleanup_s=GAPS)
SCRIPTS = st.one_of(st.just([]), st.builds(lambda first, rest: [first, *rest], FIRST, st.lists(STEPS, max_size=4)))


@given_schedules(cleanups=st.lists(GAPS, max_size=6), graces=st.lists(GAPS, min_size=6, max_size=6))
async def test_starts_and_stops_are_mirror_images(cleanups: list[float], graces: list[float]) -> None:
    """Guards against a stop in any other order than the reverse of the start."""
    trace: list[tuple[str, str]] = []
    children = [
        ChildSpec(str(number), ScriptedActor([Step(cleanup_s=cleanup)], trace), shutdown_s=graces[number])
        for number, cleanup in enumerate(cleanups)
    ]
    supervisor = Supervisor("s", SupervisorSpec(), children)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await trio.sleep(1)
        nursery.cancel_scope.cancel(reason="test")
    starts = [id for verb, id in trace if verb == "start"]
    assert starts == [child.id for child in children]
    assert trace[len(starts) :] == [("end", id) for id in reversed(starts)]


@given_schedules(
    scripts=st.lists(SCRIPTS, min_size=1, max_size=4),
    strategy=st.sampled_from(list(Strategy)),
    intensity=st.integers(0, 4),
)
async def test_random_crashes_are_counted_exactly_and_every_child_ends(
    scripts: list[list[Step]], strategy: Strategy, intensity: int
) -> None:
    """Guards against failures that are lost, counted twice, or leave a child running or missing."""
    trace: list[tuple[str, str]] = []
    recorder = EventRecorder()
    children = [
        ChildSpec(str(number), ScriptedActor(script, trace), backoff=Backoff(base_s=0.2, cap_s=0.5))
        for number, script in enumerate(scripts)
    ]
    spec = SupervisorSpec(strategy, intensity=intensity, period_s=PERIOD_S)
    supervisor = Supervisor("s", spec, children, on_event=recorder)

    async def stop_later() -> None:
        await trio.sleep(200)
        assert {child.state for child in supervisor.statistics().children} == {"running"}
        supervisor.stop()

    with trio.fail_after(1000):
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_later)
            try:
                await supervisor.run()
            except RestartIntensityExceeded:
                nursery.cancel_scope.cancel(reason="the supervisor has escalated")

    window = RestartWindow(intensity, PERIOD_S)
    for event, then in pairwise([*recorder.events, recorder.events[-1]]):
        if isinstance(event, ChildCrashed) and isinstance(then, ChildRestarting | Escalated):
            window = window.add(event.at)
            assert window.exceeded == isinstance(then, Escalated)
    for child in children:
        verbs = [verb for verb, id in trace if id == child.id]
        assert verbs == ["start", "end"] * (len(verbs) // 2)
    if not recorder.of(Escalated):
        last = [event.child for event in recorder.of(ChildStopped)][-len(children) :]
        assert last == [child.id for child in reversed(children)]
        restarts = sum(child.restarts + child.retries for child in supervisor.statistics().children)
        assert restarts == sum(verb == "start" for verb, _ in trace) - len(children)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_the_same_schedule_gives_the_same_trace(strategy: Strategy) -> None:
    """Guards against behaviour that depends on the order of a set or on the wall clock."""

    def run() -> list[str]:
        recorder = EventRecorder()
        script = [Step(CRASH, 1.0), Step(Retry(1.0), 1.0)]
        children = [ChildSpec(id, ScriptedActor(script if id == "b" else [])) for id in "abcd"]

        async def main() -> None:
            supervisor = Supervisor("s", SupervisorSpec(strategy), children, on_event=recorder, rng=ManualRng())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.run)
                await trio.sleep(10)
                supervisor.stop()

        trio.run(main, clock=autojump())
        return [str(event) for event in recorder.events]

    assert run() == run()
