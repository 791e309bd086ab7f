"""Draw the picture of a pipeline that the admin serves."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from actors import ChildCrashed, ChildRetrying, error_text
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

    from actors import ChildStatistics, Event, Supervisor
    from deltaforge.config.schema import Pipeline as PipelineConfig
    from deltaforge.graph import Graph, SinkUnit
    from deltaforge.model import SlotState


class History:
    """What became of each actor since the process started; a supervisor forgets it when it is restarted itself."""

    def __init__(self) -> None:
        self.crashes: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}

    def heard(self, actor: str, event: Event) -> None:
        """Note an event about `actor`, named by its path below the pipeline. A crash is not covered up by a retry."""
        if isinstance(event, ChildCrashed):
            self.crashes[actor] += 1
            self._reasons[actor] = error_text(event.error)
        elif isinstance(event, ChildRetrying):
            self.retries[actor] += 1
            if not self.crashes[actor]:
                self._reasons[actor] = event.reason

    def last_error(self, actor: str) -> str | None:
        """The last crash, else why it last started over, else None."""
        reason = self._reasons.get(actor)
        return None if reason is None else redact(reason)


def pipeline_view(
    config: PipelineConfig,
    graph: Graph | None,
    supervisors: Sequence[Supervisor],
    history: History,
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
        actors=_tree(graph, history, *supervisors),
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


def _tree(graph: Graph, history: History, supervisor: Supervisor, *beside: Supervisor) -> ActorView:
    children = [_actor(graph, history, child, "") for child in supervisor.statistics().children]
    for other in beside:
        below = tuple(_actor(graph, history, child, f"{other.id}/") for child in other.statistics().children)
        children.append(ActorView(id=other.id, kind="supervisor", state="running", children=below))
    return ActorView(id=supervisor.id, kind="supervisor", state="running", children=tuple(children))


def _actor(graph: Graph, history: History, child: ChildStatistics, above: str) -> ActorView:
    below, path = child.children, f"{above}{child.id}"
    return ActorView(
        id=child.id,
        kind="worker" if below is None else "supervisor",
        state=child.state,
        detail=redact(graph.reports.get(child.id, ("", ""))[1]),
        restarts=history.crashes[path],
        retries=history.retries[path],
        last_error=history.last_error(path),
        waiting_for=child.waiting_for,
        children=tuple(_actor(graph, history, each, f"{path}/") for each in below or ()),
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
