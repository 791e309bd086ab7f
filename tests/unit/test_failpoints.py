"""The grammar of DELTAFORGE_FAILPOINTS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from actors import ActorContext, ChildCrashed, ChildSpec, Supervisor, SupervisorSpec
from actors.testing import EventRecorder
from deltaforge import failpoints
from deltaforge.failpoints import FailpointHit, failpoint, failpoint_async

if TYPE_CHECKING:
    from trio.testing import MockClock


def _arm(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(failpoints, "_armed", failpoints._parse(text))


def _hits(name: str, passes: int) -> list[int]:
    """At which passes it raises."""
    hits = []
    for number in range(1, passes + 1):
        try:
            failpoint(name)
        except FailpointHit:
            hits.append(number)
    return hits


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("a=raise", [1, 2, 3, 4, 5]),
        ("a=raise@2", [2]),
        ("a=raise@3+", [3, 4, 5]),
        ("a=raise@2, a=raise@4", [2, 4]),
        ("b=raise", []),
        ("other:a=raise", []),
    ],
)
def test_an_entry_says_at_which_passes_it_acts(text: str, hits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a fault test that tests nothing, because its fault never came."""
    _arm(monkeypatch, text)

    assert _hits("a", 5) == hits


@pytest.mark.parametrize(("path", "hit"), [("root/orders/sinks/out", True), ("root/items/reader", False)])
async def test_an_entry_may_be_for_one_pipeline(path: str, hit: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against harm to the pipeline that has to live on."""
    _arm(monkeypatch, "orders:a=raise")
    ActorContext("x", path=path).arm()

    if hit:
        with pytest.raises(FailpointHit):
            await failpoint_async("a")
    else:
        await failpoint_async("a")


def test_an_unknown_action_is_refused() -> None:
    """Guards against a misspelt fault that is simply left out."""
    with pytest.raises(ValueError, match="explode"):
        failpoints._parse("a=explode")


async def test_a_cancelled_actor_takes_no_further_step(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Guards against two failures that melt into one, so that the first was never tested."""
    # Who comes first, the supervisor or the next step, is a matter of chance.
    _arm(monkeypatch, ",".join(f"a=cancel@{number}" for number in range(1, 21)))
    further: list[int] = []
    done = trio.Event()

    async def run(ctx: ActorContext) -> None:
        ctx.started()
        await failpoint_async("a")
        further.append(ctx.attempt)
        if ctx.attempt == 20:
            done.set()
        await ctx.stopping.wait()

    recorder = EventRecorder()
    supervisor = Supervisor("s", SupervisorSpec(intensity=None), [ChildSpec("x", run)], on_event=recorder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await done.wait()
        supervisor.stop()
    assert further == [20]
    assert all("failpoint a" in str(crash.error) for crash in recorder.of(ChildCrashed))
