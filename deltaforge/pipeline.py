"""One pipeline: the only file that knows the whole graph.

    reader -> assembler -> batcher -> a sink each => Kafka        channels, bounded, owned here
       ^-- flush cell -- checkpointer <-- receipt cells --'       latest values, never queues

    NAME rest_for_one 5/60, started downstream first: checkpointer, sinks (one_for_one), batcher, assembler, reader

Everything an actor shares with another belongs to the pipeline and survives restarts; what it owns alone does not, and
comes back with the next epoch.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import trio

from actors import (
    IMMEDIATE,
    Backoff,
    ChildCrashed,
    ChildRetrying,
    ChildSpec,
    Escalate,
    Kind,
    Restart,
    RestartIntensityExceeded,
    Strategy,
    Supervisor,
    SupervisorSpec,
    error_text,
)
from deltaforge.errors import DeltaforgeError, Fault, Refused
from deltaforge.graph import Graph
from deltaforge.logs import get_logger
from deltaforge.runtime import Outcome
from deltaforge.source.sql import ControlSession
from deltaforge.views import History, pipeline_view

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from actors import ActorContext, Event
    from deltaforge.config.schema import Pipeline as PipelineConfig
    from deltaforge.metrics import PipelineMetrics
    from deltaforge.runtime import RunOptions
    from deltaforge.status import PipelineState, PipelineView

log = get_logger("pipeline")

_SINKS = SupervisorSpec(intensity=5, period_s=60.0, max_consecutive=10)
_FLOW = replace(_SINKS, strategy=Strategy.REST_FOR_ONE)
"""Slow crashes never meet in one window; ten in a row without a stable minute are too many all the same."""
_ALIVE = ("starting", "running", "waiting", "stopping")
_LOOK_S = 0.05
_BACKOFF = Backoff(base_s=0.1, cap_s=2.0)


class Pipeline:
    """A pipeline of one configuration file. Runs once."""

    def __init__(self, config: PipelineConfig, metrics: PipelineMetrics, options: RunOptions) -> None:
        self.name = config.metadata.name
        self._config, self._metrics, self._options = config, metrics, options
        self._graph: Graph | None = None
        self._supervisors: tuple[Supervisor, ...] = ()
        self._history = History()
        self._ctx: ActorContext | None = None
        self._ended: tuple[PipelineState, str] | None = None
        self._state: PipelineState = "starting"
        self._since = datetime.now(UTC)

    def child_spec(self) -> ChildSpec:
        """This pipeline under the root supervisor: past its limits it is parked, the others live on."""
        return ChildSpec(self.name, self.run, restart=Restart.TEMPORARY, kind=Kind.SUPERVISOR, shutdown_s=25.0)

    def outcome(self) -> Outcome:
        """How it stands for the exit code."""
        state, detail = self._now()
        if state in ("refused", "failed", "blocked", "stopped"):
            return Outcome(state, detail)
        return Outcome("working", detail)

    def view(self) -> PipelineView:
        """A picture for the admin."""
        state, detail = self._now()
        return pipeline_view(self._config, self._graph, self._supervisors, self._history, state, detail, self._since)

    async def run(self, ctx: ActorContext) -> None:
        """Work until stopped, refused or failed.

        Raises:
          Refused: going on would lose or repeat data.
          RestartIntensityExceeded: an actor crashed too often.
        """
        self._ctx = ctx
        source = self._config.spec.source.config
        try:
            async with ControlSession(source.dsn, source.slot, source.publication) as control:
                await self._run(ctx, control)
            self._end("stopped", "")
        except Exception as error:
            refusal = _refusal(error)
            if refusal is not None:
                self._end("refused", refusal.line())
                raise refusal from None
            self._end("failed", _failure(error))
            raise

    async def _run(self, ctx: ActorContext, control: ControlSession) -> None:
        graph = self._graph = Graph(
            self._config, self._metrics, self._options, control, instance=secrets.token_hex(8), said=self._now
        )

        def heard(event: Event) -> None:
            self._heard(ctx, event)

        flow = self._flow(graph, heard)
        monitor = self._stage("monitor", graph.monitor.run, IMMEDIATE)
        observer = Supervisor("observer", SupervisorSpec(intensity=None), [monitor], on_event=heard)
        self._supervisors = (flow, observer)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(observer.run)
                nursery.start_soon(_end_input, ctx, flow, graph)
                failure: Exception | None = None
                try:
                    await flow.run(ctx)
                except Exception as error:  # carried out of the nursery, which would wrap it
                    failure = error
                nursery.cancel_scope.cancel(reason="the pipeline has ended")
        finally:
            with trio.move_on_after(5, shield=True):
                await graph.aclose()
        if failure is not None:
            raise failure

    def _flow(self, graph: Graph, heard: Callable[[Event], None]) -> Supervisor:
        """The supervisor of everything that data passes through, downstream first."""
        sinks = Supervisor(
            "sinks",
            _SINKS,
            [self._stage(unit.id, unit.actor.run, 3.0) for unit in graph.units],
        )
        return Supervisor(
            self.name,
            _FLOW,
            [
                self._stage("checkpointer", graph.checkpointer.run, 1.0),
                sinks.child_spec(sibling_shutdown_s=IMMEDIATE),
                self._stage("batcher", graph.batcher.run, 0.5),
                self._stage("assembler", graph.assembler.run, 0.5),
                self._stage("reader", graph.reader.run, 3.0),
            ],
            on_event=heard,
        )

    def _stage(self, id: str, run: Callable[[ActorContext], Awaitable[None]], grace_s: float) -> ChildSpec:
        return ChildSpec(
            id,
            run,
            restart=Restart.TRANSIENT,
            shutdown_s=grace_s,
            sibling_shutdown_s=IMMEDIATE,
            stall_after_s=self._options.stall_after_s,
            backoff=_BACKOFF,
            return_is_crash=True,
        )

    def _heard(self, ctx: ActorContext, event: Event) -> None:
        actor = f"{event.supervisor}/{event.child}".removeprefix(f"{ctx.path}/")
        self._history.heard(actor, event)
        if isinstance(event, ChildCrashed):
            self._metrics.restarted(actor)
        elif isinstance(event, ChildRetrying):
            self._metrics.retried(actor)
        ctx.emit(event)

    def _end(self, state: PipelineState, detail: str) -> None:
        self._ended = (state, detail)
        self._now()

    def _now(self) -> tuple[PipelineState, str]:
        """State and why, from what the actors last said; remembers since when."""
        state, detail = self._judge()
        if state != self._state:
            self._state, self._since = state, datetime.now(UTC)
            tell = log.warning if state in ("blocked", "refused", "failed") else log.info
            tell("state", pipeline=self.name, state=state, detail=detail)
        self._metrics.state(state)
        return state, detail

    def _judge(self) -> tuple[PipelineState, str]:
        if self._ended is not None:
            return self._ended
        if self._ctx is not None and self._ctx.stopping.is_set():
            return "stopping", ""
        if self._graph is None:
            return "starting", ""
        return self._graph.judge()


async def _end_input(ctx: ActorContext, flow: Supervisor, graph: Graph) -> None:
    """On a drain close the first channel once the reader has ended: one that was waiting for its server cannot."""
    await ctx.stopping.wait()
    # The supervisor has no event for the end of one child.
    while any(child.id == "reader" and child.state in _ALIVE for child in flow.statistics().children):  # noqa: ASYNC110
        await trio.sleep(_LOOK_S)
    graph.chunks.close()


def _refusal(error: BaseException) -> Refused | None:
    """The refusal inside of an escalation, if that is what ended the pipeline."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, Escalate):
        return _refusal(error.cause)
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_refusal, error.exceptions)), None)
    return None


def _failure(error: Exception) -> str:
    """One line about what ended the pipeline."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return _failure(error.exceptions[0])
    if isinstance(error, DeltaforgeError) and error.fault is not Fault.BUG:
        return error.line()
    text = error_text(error)
    if isinstance(error, RestartIntensityExceeded):
        # The supervisors on the way up each say the same; the innermost names the actor.
        last = error.causes.exceptions[-1]
        text = _failure(last) if isinstance(last, RestartIntensityExceeded) else str(error)
    return " ".join(text.split())
