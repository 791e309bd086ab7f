"""The root of the tree: who is parked, who lives on, and what the process ends with."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import trio

from actors import ActorContext, ChildSpec, Escalate
from deltaforge import stderr
from deltaforge.admin.guard import Guard
from deltaforge.admin.server import bind
from deltaforge.errors import Refused
from deltaforge.process import BLOCKED, DONE, FAILED, REFUSED, Process
from deltaforge.runtime import Outcome
from deltaforge.status import PipelineState, PipelineView

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
WAIT_S = 30


@dataclass
class Scripted:
    """A pipeline that does as the test says: the smallest thing with the interface of the real one."""

    name: str
    state: PipelineState = "running"
    result: Outcome = field(default_factory=lambda: Outcome("working"))
    working: trio.Event = field(default_factory=trio.Event)
    may_end: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None
    ready: bool = True
    drains: trio.Event = field(default_factory=trio.Event)
    may_drain: trio.Event | None = None

    def child_spec(self) -> ChildSpec:
        return ChildSpec(self.name, self.run)

    def view(self) -> PipelineView:
        return PipelineView(name=self.name, state=self.state, detail=self.result.line)

    def outcome(self) -> Outcome:
        return self.result

    async def run(self, ctx: ActorContext) -> None:
        if self.ready:
            ctx.started()
        self.working.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain, ctx)
            await self.may_end.wait()
            nursery.cancel_scope.cancel()
        if self.error is not None:
            raise self.error

    def end(self, state: Literal["refused", "failed", "stopped"], line: str, error: Exception | None) -> None:
        """Let it end by itself."""
        self.state, self.result, self.error = state, Outcome(state, line), error
        self.may_end.set()

    async def _drain(self, ctx: ActorContext) -> None:
        await ctx.stopping.wait()
        self.drains.set()
        if self.may_drain is not None:
            await self.may_drain.wait()
        self.may_end.set()


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with bind("127.0.0.1", 0) as found:
        yield found


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The plain lines for the operator; log lines begin with a time."""
    lines: list[str] = []

    def keep(line: str) -> None:
        if line.startswith("pipeline "):
            lines.append(line)

    monkeypatch.setattr(stderr, "say", keep)
    return lines


def _process(sock: socket.socket, *pipelines: Scripted, grace_s: float = 20.0) -> Process:
    return Process(pipelines, sock=sock, guard=Guard("127.0.0.1", None), grace_s=grace_s)


async def _ask(sock: socket.socket, path: str) -> tuple[int, dict[str, object]]:
    def ask() -> tuple[int, dict[str, object]]:
        host, port = sock.getsockname()
        connection = http.client.HTTPConnection(host, port, timeout=WAIT_S)
        connection.request("GET", path)
        with connection.getresponse() as answer:
            found = answer.status, json.loads(answer.read())
        connection.close()
        return found

    return await trio.to_thread.run_sync(ask)


def _run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, cwd=REPOSITORY)


class Running:
    """A process in the background of a test."""

    def __init__(self, process: Process, nursery: trio.Nursery) -> None:
        self.process = process
        self.code: int | None = None
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        self.code = await self.process.run()


async def test_one_refused_pipeline_leaves_the_others_alone(sock: socket.socket, said: list[str]) -> None:
    """Guards against one lost slot that stops every other stream."""
    good, bad = Scripted("good"), Scripted("bad")
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            running = Running(_process(sock, good, bad), nursery)
            await bad.working.wait()

            bad.end("refused", "found 0/1, expected 0/2", Escalate(Refused("found 0/1")))
            while (await _ask(sock, "/pipelines/bad"))[1]["state"] != "refused" or not said:
                pass

            health = await _ask(sock, "/health")
            assert not good.drains.is_set()
            running.process.stop()

    assert said == ["pipeline bad refused: found 0/1, expected 0/2"]
    assert health == (200, {"state": "degraded", "problems": ["pipeline bad is refused: found 0/1, expected 0/2"]})
    assert running.code == DONE


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("refused", "refused", REFUSED),
        ("refused", "failed", REFUSED),
        ("failed", "failed", FAILED),
        ("failed", "stopped", FAILED),
        ("stopped", "stopped", DONE),
    ],
)
async def test_the_process_ends_when_no_pipeline_can_work(
    sock: socket.socket, said: list[str], first: str, second: str, code: int, ready: bool
) -> None:
    """Guards against an empty process that looks alive, and a wrong exit code for the one who restarts it."""
    errors = {"refused": Escalate(Refused("no")), "failed": RuntimeError("bug"), "stopped": None}
    one, two = Scripted("one", ready=ready), Scripted("two", ready=ready)
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            running = Running(_process(sock, one, two), nursery)
            for pipeline, state in ((one, first), (two, second)):
                await pipeline.working.wait()
                pipeline.end(state, f"why {state}", errors[state])  # type: ignore[arg-type]

    assert running.code == code
    expected = {f"pipeline {name} {state}: why {state}" for name, state in (("one", first), ("two", second))}
    assert set(said) == {line for line in expected if "stopped" not in line}


async def test_a_crash_that_the_pipeline_did_not_see_is_a_failure(sock: socket.socket, said: list[str]) -> None:
    """Guards against a process that waits for ever for a pipeline that is gone."""
    pipeline = Scripted("orders", error=RuntimeError("unseen"))
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            running = Running(_process(sock, pipeline), nursery)
            await pipeline.working.wait()
            pipeline.may_end.set()

    assert running.code == FAILED
    assert len(said) == 1
    assert "unseen" in said[0]


@pytest.mark.fault("P22")
async def test_a_stop_drains_all_pipelines_at_the_same_time(sock: socket.socket, said: list[str]) -> None:
    """Guards against graces that add up until the container is killed; the admin answers meanwhile."""
    both = [Scripted("one", may_drain=trio.Event()), Scripted("two", may_drain=trio.Event())]
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            running = Running(_process(sock, *both, grace_s=1000), nursery)
            for pipeline in both:
                await pipeline.working.wait()

            running.process.stop()
            for pipeline in both:
                await pipeline.drains.wait()
            assert (await _ask(sock, "/pipelines/one"))[0] == 200
            for pipeline in both:
                assert pipeline.may_drain is not None
                pipeline.may_drain.set()

    assert (running.code, said) == (DONE, [])


@pytest.mark.fault("P22")
async def test_stopped_while_blocked_says_so(sock: socket.socket, said: list[str]) -> None:
    """Guards against a roll-out that takes a stuck pipeline for a finished one."""
    stuck = Scripted("orders", state="blocked", result=Outcome("blocked", "publication is missing"))
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            running = Running(_process(sock, stuck, Scripted("other")), nursery)
            await stuck.working.wait()
            running.process.stop()

    assert running.code == BLOCKED
    assert said == ["pipeline orders was blocked: publication is missing"]


@pytest.mark.fault("P22")
async def test_a_pipeline_that_does_not_drain_is_cut_off_after_the_grace(sock: socket.socket, said: list[str]) -> None:
    """Guards against a drain that never ends."""
    slow = Scripted("slow", may_drain=trio.Event())
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            running = Running(_process(sock, slow, grace_s=0.1), nursery)
            await slow.working.wait()
            running.process.stop()

    assert running.code == DONE


async def test_a_pipeline_named_admin_is_a_pipeline(sock: socket.socket, said: list[str]) -> None:
    """Guards against a name that collides with the server's own."""
    pipeline = Scripted("admin")
    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            running = Running(_process(sock, pipeline), nursery)
            await pipeline.working.wait()
            assert (await _ask(sock, "/pipelines/admin"))[0] == 200
            running.process.stop()

    assert running.code == DONE


@pytest.mark.fault("P27")
@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("process._loop_is_silent(31)", "the event loop did not turn for 31 s"),
        ("process._end_after(0.1); time.sleep(60)", "not stopped 0.1 s after the signal"),
    ],
)
def test_what_hangs_is_ended_with_every_stack_shown(code: str, line: str) -> None:
    """Guards against a process that neither works nor ends, and against not knowing why."""
    done = _run(f"import time\nfrom deltaforge import process\n{code}")

    assert done.returncode == 1
    assert line in done.stderr
    assert 'File "<string>", line 3 in <module>' in done.stderr


OUTLIVES_ITS_CANCELLATION = """
import threading, trio, trio.testing
from actors import ChildSpec
from deltaforge.admin.guard import Guard
from deltaforge.admin.server import bind
from deltaforge.process import Process
from tests.integration.test_process import Scripted

class Stuck(Scripted):
    def child_spec(self):
        return ChildSpec(self.name, self.run, stall_after_s=10)

    async def run(self, ctx):
        ctx.started()
        with trio.CancelScope(shield=True):
            await {wait}

with bind("127.0.0.1", 0) as sock:
    process = Process([Stuck("orders")], sock=sock, guard=Guard("127.0.0.1", None), grace_s=1)
    clock = trio.testing.MockClock(autojump_threshold=0.1)
    raise SystemExit(trio.run(process.run, clock=clock))
"""


@pytest.mark.fault("P27")
@pytest.mark.parametrize(
    ("wait", "line"),
    [
        ("trio.to_thread.run_sync(threading.Event().wait)", "orders did not end within 63 s of its cancellation"),
        ("trio.sleep(70)", "pipeline orders failed: "),
    ],
)
def test_an_actor_that_outlives_its_cancellation_by_a_minute_ends_the_process(wait: str, line: str) -> None:
    """Guards against a pipeline that waits for ever for a thread that is no more, and against less patience."""
    done = _run(OUTLIVES_ITS_CANCELLATION.format(wait=wait))

    assert done.returncode == FAILED
    assert [said for said in done.stderr.splitlines() if line in said], done.stderr
    assert ("ending at once" in done.stderr) == ("did not end" in line)
