"""Draw the picture of a pipeline that the admin serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.config.secret import redact
from deltaforge.model import Lsn
from deltaforge.status import (
    ActorView,
    BudgetView,
    ChannelView,
    PipelineState,
    PipelineView,
    PositionsView,
    SinkView,
    SlotView,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from actors import ChildStatistics, Supervisor
    from deltaforge.config.schema import Pipeline as PipelineConfig
    from deltaforge.graph import Graph, SinkUnit
    from deltaforge.model import SlotState


def pipeline_view(
    config: PipelineConfig,
    graph: Graph | None,
    supervisors: Sequence[Supervisor],
    state: PipelineState,
    detail: str,
    since: datetime,
) -> PipelineView:
    """The whole picture; before the graph exists only name and state.

    `supervisors`: the pipeline's own, then others beside it. Texts of errors pass the redactor: who raised them may not
    have known what they quote.
    """
    name, tenant, detail = config.metadata.name, config.metadata.tenant or "", redact(detail)
    if graph is None or not supervisors:
        return PipelineView(name=name, tenant=tenant, state=state, detail=detail, since=since)
    reader = graph.reader.statistics()
    needed = [unit for unit in graph.units if graph.needs(unit)] or graph.units
    durable = min((unit.actor.statistics().flush_lsn for unit in needed), default=Lsn(0))
    return PipelineView(
        name=name,
        tenant=tenant,
        state=state,
        detail=detail,
        since=since,
        epoch=graph.epoch.value,
        positions=PositionsView(
            received=_lsn(reader.received_lsn), durable=_lsn(durable), confirmed=_lsn(reader.confirmed_lsn)
        ),
        lag=graph.monitor.lag,
        rates=graph.monitor.rates,
        actors=_tree(graph, *supervisors),
        channels=tuple(
            ChannelView(name=s.name, capacity=int(s.capacity), fill=s.buffered, peak=s.peak)
            for s in (channel.statistics() for channel in graph.channels())
        ),
        budget=BudgetView(limit=graph.budget.limit, used=graph.budget.used),
        sinks=tuple(_sink(graph, unit) for unit in graph.units),
        slot=_slot(config.spec.source.config.slot, graph.monitor.slot or reader.slot),
    )


def _lsn(lsn: Lsn) -> str | None:
    return str(lsn) if lsn else None


def _tree(graph: Graph, supervisor: Supervisor, *beside: Supervisor) -> ActorView:
    children = [_actor(graph, child) for child in supervisor.statistics().children]
    children += [_tree(graph, other) for other in beside]
    return ActorView(id=supervisor.id, kind="supervisor", state="running", children=tuple(children))


def _actor(graph: Graph, child: ChildStatistics) -> ActorView:
    below = child.children
    return ActorView(
        id=child.id,
        kind="worker" if below is None else "supervisor",
        state=child.state,
        detail=redact(graph.reports.get(child.id, ("", ""))[1]),
        restarts=child.restarts,
        retries=child.retries,
        last_error=None if child.last_error is None else redact(child.last_error),
        waiting_for=child.waiting_for,
        children=tuple(_actor(graph, each) for each in below or ()),
    )


def _sink(graph: Graph, unit: SinkUnit) -> SinkView:
    now = unit.actor.statistics()
    state, detail = graph.reports.get(unit.id, (now.state, now.detail))
    return SinkView(
        id=unit.id,
        type=str(unit.type),
        state=state,
        detail=redact(detail),
        required=unit.required,
        position=_lsn(now.durable),
        events=now.events,
        commits=now.commits,
        aborts=now.aborts,
        errors=now.aborts,
        lag_events=max(graph.assembler.epoch_events - unit.actor.durable_events, 0),
    )


def _slot(name: str, slot: SlotState | None) -> SlotView:
    if slot is None:
        return SlotView(name=name)
    return SlotView(
        name=name,
        exists=slot.exists,
        active_pid=slot.active_pid,
        confirmed_flush=_lsn(slot.confirmed_flush),
        restart_lsn=_lsn(slot.restart_lsn),
        wal_status=slot.wal_status,
        retained_bytes=slot.retained_bytes,
    )
