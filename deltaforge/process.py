"""The root of the supervision tree: every pipeline beside the admin HTTP, and what the process ends with.

    root one_for_one
    |- .admin   a supervisor without limits: its end never touches data
    `- NAME     one child for each pipeline, TEMPORARY: past its limits it is parked, the others live on

Rule 1: the admin starts first and stops last, so that a drain can be watched.
Rule 2: all pipelines drain at the same time; the grace is for all of them together.
Rule 3: the process ends by itself when no pipeline can work any more: 4 if one was refused, 1 if one failed, else 0.
Rule 4: asked to stop it ends with 0, or with 3 if a pipeline was blocked then.
Rule 5: whatever refuses to stop, the process ends some seconds after the grace. Ending hard is safe: nothing is
        confirmed before it is durable.
Rule 6: nor does it wait for ever for an actor of a pipeline that outlives its cancellation, such as one whose worker
        thread died for lack of memory before it could answer: nothing in the process can end that wait. It ends with 1
        whatever else was found, so that it is started again and finds it again.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import trio

from actors import (
    INFINITY,
    ActorContext,
    ChildCrashed,
    ChildExited,
    ChildRestarting,
    ChildRetrying,
    ChildSpec,
    ChildStarted,
    ChildStopped,
    Event,
    LoopWatchdog,
    Restart,
    StopTimedOut,
    Supervisor,
    SupervisorSpec,
)
from deltaforge import metrics, stderr
from deltaforge.admin.server import AdminServer
from deltaforge.logs import get_logger
from deltaforge.runtime import Outcome
from deltaforge.status import Health, PipelineView, Ready, judge_health, judge_ready

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from deltaforge.admin.guard import Guard

log = get_logger("deltaforge.process")

DONE, FAILED, CONFIGURATION, BLOCKED, REFUSED = range(5)
"""Exit codes. A second signal adds the shell's own: 128 + its number."""

MARGIN_S: Final = 10.0
"""After the grace: for actors that were cancelled, and for the admin."""
UNENDING_S: Final = 60.0
"""After its cancellation an actor may still wait for a name to be resolved or a file to be synced, not for longer."""
UNENDING_TREE_S: Final = 4 * UNENDING_S
"""A supervisor ends its children one after the other."""
_ADMIN: Final = ".admin"
"""No pipeline may have a name with a dot."""
_ENDS = (ChildExited, ChildCrashed, ChildRetrying)
"""Ends by itself: a pipeline is TEMPORARY, so none of them is followed by a restart."""


class RunningPipeline(Protocol):
    """What the process needs of a pipeline."""

    @property
    def name(self) -> str: ...
    def child_spec(self) -> ChildSpec: ...
    def view(self) -> PipelineView: ...
    def outcome(self) -> Outcome: ...


class Process:
    """All pipelines and the admin HTTP; also the Status that the admin serves."""

    def __init__(
        self,
        pipelines: Sequence[RunningPipeline],
        *,
        sock: socket.socket,
        guard: Guard,
        grace_s: float,
        stall_after_s: float = 30.0,
        parked: Sequence[PipelineView] = (),
    ) -> None:
        """Prepare a run. `parked` are pictures of pipelines that cannot even be built (their file is wrong)."""
        self._pipelines = {pipeline.name: pipeline for pipeline in pipelines}
        self._parked = {view.name: view for view in parked}
        self._grace_s, self._stall_after_s = grace_s, stall_after_s
        self._contexts: dict[str, ActorContext] = {}
        self._ended: dict[str, Outcome] = {}
        self._stopped_with: int | None = None
        server = AdminServer(status=self, sock=sock, guard=guard)
        http = ChildSpec("http", server.run, shutdown_s=3.0, stall_after_s=stall_after_s)
        admin = Supervisor("admin", SupervisorSpec(intensity=None), [http], ready_at_once=True)
        specs = [replace(admin.child_spec(), id=_ADMIN), *(self._child(pipeline) for pipeline in pipelines)]
        self._root = Supervisor("root", SupervisorSpec(intensity=None), specs, on_event=self._hear)

    @property
    def grace_s(self) -> float:
        """Seconds a drain may take."""
        return self._grace_s

    async def run(self) -> int:
        """Run until every pipeline has ended or `stop` was called; return the exit code."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(LoopWatchdog(self._stall_after_s, _loop_is_silent).run)
            await self._root.run()
            nursery.cancel_scope.cancel(reason="the process ends")
        return self._verdict() if self._stopped_with is None else self._stopped_with

    def stop(self) -> None:
        """Drain all pipelines, then end."""
        if self._stopped_with is None:
            stuck = [pipeline for pipeline in self._pipelines.values() if pipeline.outcome().state == "blocked"]
            for pipeline in stuck:
                stderr.say(f"pipeline {pipeline.name} was blocked: {pipeline.outcome().line}")
            self._stopped_with = BLOCKED if stuck else DONE
        self._root.stop()
        for context in self._contexts.values():
            context.ask_to_stop(trio.current_time() + self._grace_s)

    # -- Status

    def pipelines(self) -> tuple[PipelineView, ...]:
        """All pipelines, in the order of their names."""
        views = [pipeline.view() for pipeline in self._pipelines.values()]
        return tuple(sorted((*views, *self._parked.values()), key=lambda view: view.name))

    def pipeline(self, name: str) -> PipelineView | None:
        """The pipeline of that name, None when there is none."""
        pipeline = self._pipelines.get(name)
        return pipeline.view() if pipeline is not None else self._parked.get(name)

    def health(self) -> Health:
        """Whether the process can work or wait, and what is wrong."""
        return judge_health(self.pipelines())

    def ready(self) -> Ready:
        """Whether every pipeline works or stands by."""
        return judge_ready(self.pipelines())

    # -- the tree

    def _child(self, pipeline: RunningPipeline) -> ChildSpec:
        spec = pipeline.child_spec()
        run = self._parking(pipeline.name, spec.run)
        return replace(spec, run=run, restart=Restart.TEMPORARY, shutdown_s=self._grace_s, start_within_s=INFINITY)

    def _parking(
        self, name: str, run: Callable[[ActorContext], Awaitable[None]]
    ) -> Callable[[ActorContext], Awaitable[None]]:
        async def ready_at_once(ctx: ActorContext) -> None:
            # A pipeline that fails on its way up is parked like any other; it does not take its siblings down.
            ctx.started()
            self._contexts[name] = ctx
            await run(ctx)

        return ready_at_once

    def _hear(self, event: Event) -> None:
        fields = event.as_dict()
        what = str(fields.pop("event")).replace("_", " ")
        fields.pop("at")
        _teller(event)(what, **fields)
        if event.supervisor == f"root/{_ADMIN}" and isinstance(event, ChildCrashed):
            metrics.admin_restarted(event.child)
        if event.supervisor == "root" and event.child in self._pipelines and isinstance(event, _ENDS):
            self._park(event.child, str(event))
        if isinstance(event, StopTimedOut) and self._stopped_with is None and _never_ends(event):
            _dump_stacks()
            who, late_s = f"{event.supervisor}/{event.child}", event.waited_s
            end_at_once(FAILED, f"{who} did not end within {late_s:.0f} s of its cancellation: ending at once")

    def _park(self, name: str, found: str) -> None:
        outcome = self._pipelines[name].outcome()
        if outcome.state in ("working", "blocked"):
            outcome = Outcome("failed", found)
        self._ended[name] = outcome
        if outcome.state != "stopped":
            stderr.say(f"pipeline {name} {outcome.state}: {outcome.line}")
        if len(self._ended) == len(self._pipelines):
            self._root.stop()

    def _verdict(self) -> int:
        states = {outcome.state for outcome in self._ended.values()}
        return REFUSED if "refused" in states else FAILED if "failed" in states else DONE


def _never_ends(event: StopTimedOut) -> bool:
    """Whether a pipeline is past hope. The admin, and what only watches a pipeline, hold up no data: they are told."""
    path = (*event.supervisor.split("/"), event.child)
    if path[0] != "root" or path[1] == _ADMIN:
        return False
    return event.waited_s > (UNENDING_S if event.role == "worker" else UNENDING_TREE_S)


def _teller(event: Event) -> Callable[..., None]:
    """How loud an event is. A server that is away is told once per attempt, in `child retrying`."""
    match event:
        case ChildRestarting(counted=False):
            return log.debug
        case ChildStarted(attempt=attempt):
            return log.debug if attempt else log.info
        case ChildExited() | ChildStopped() | ChildRetrying():
            return log.info
        case _:
            return log.warning


async def run_until_signalled(process: Process) -> int:
    """Run; the first SIGTERM or SIGINT drains, the second ends the process at once. Returns the exit code."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey, process, received)
            code = await process.run()
            nursery.cancel_scope.cancel(reason="the process ends")
    return code


async def _obey(process: Process, received: AsyncIterator[int]) -> None:
    asked = False
    async for number in received:
        if asked:
            end_at_once(128 + number, "second signal: ending at once")
        asked = True
        log.info("stopping", signal=signal.Signals(number).name, grace_s=process.grace_s)
        _end_after(process.grace_s + MARGIN_S)
        process.stop()


def end_at_once(code: int, line: str) -> None:
    """End the process without any cleanup, after stderr had a second to take what was said."""
    stderr.say(f"deltaforge: {line}")
    stderr.flush(1.0)
    os._exit(code)


def _end_after(limit_s: float) -> None:
    def end() -> None:
        _dump_stacks()
        end_at_once(FAILED, f"not stopped {limit_s:g} s after the signal: ending at once")

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()


def _loop_is_silent(silent_s: float) -> None:
    _dump_stacks()
    end_at_once(FAILED, f"the event loop did not turn for {silent_s:.0f} s: ending at once")


def _dump_stacks() -> None:
    # In a thread of its own: faulthandler writes to stderr itself, and nobody may be reading there.
    dump = threading.Thread(target=faulthandler.dump_traceback, daemon=True)
    dump.start()
    dump.join(2.0)
