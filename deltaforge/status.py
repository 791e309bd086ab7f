"""What a running deltaforge says about itself: frozen pictures that the pipeline fills and the admin HTTP serves.

Rule 1: a view is a picture of one moment, made of plain values; whoever holds one cannot touch the pipeline.
Rule 2: no row values, no secrets; texts are one line.
Rule 3: every field carries its description. docs/reference/http-api.md is printed from them and a test holds it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

PipelineState: TypeAlias = Literal[
    "starting", "running", "standby", "blocked", "refused", "failed", "stopping", "stopped"
]
"""How a pipeline is.

starting  connecting, reading the checkpoint, waiting for a server on the way up
running   changes flow (or would, if there were any)
standby   another instance holds the slot; this one takes over when it is free
blocked   a person has to change something outside; goes on by itself once that is done
refused   going on would lose or repeat data; parked
failed    crashed more often than allowed; parked
stopping  draining on request
stopped   drained, or ended
"""

PIPELINE_STATES: tuple[PipelineState, ...] = (
    "starting", "running", "standby", "blocked", "refused", "failed", "stopping", "stopped",
)  # fmt: skip
"""All states, in the order of a pipeline's life."""


def _doc(description: str) -> msgspec.Meta:
    return msgspec.Meta(description=description)


Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all pictures."""


class PositionsView(View, frozen=True):
    """How far the pipeline has come, as PostgreSQL writes WAL positions; null = nothing yet."""

    received: Annotated[str | None, _doc("Last WAL position received from PostgreSQL.")] = None
    durable: Annotated[str | None, _doc("Last WAL position that every sink the commit policy asks for has stored.")] = (
        None
    )
    confirmed: Annotated[str | None, _doc("Last WAL position confirmed to PostgreSQL.")] = None


class LagView(View, frozen=True):
    """How far behind the sinks are."""

    bytes: Annotated[
        int | None, _doc("WAL bytes from the durable position to the server's newest; null = unknown.")
    ] = None
    seconds: Annotated[
        float | None, _doc("Age in seconds of the oldest commit that is not durable; 0 = none waits, null = unknown.")
    ] = None
    events: Annotated[int, _doc("Events received but not yet durable.")] = 0


class RatesView(View, frozen=True):
    """Rates over about the last ten seconds."""

    events_per_second: Annotated[float, _doc("Events made durable, per second.")] = 0.0
    received_events_per_second: Annotated[float, _doc("Events received from PostgreSQL, per second.")] = 0.0
    received_bytes_per_second: Annotated[float, _doc("WAL stream bytes received from PostgreSQL, per second.")] = 0.0


class ActorView(View, frozen=True):
    """One actor, or a supervisor with the actors below it."""

    id: Annotated[str, _doc("Name, unique among its siblings.")]
    kind: Annotated[Literal["worker", "supervisor"], _doc("Whether it works, or watches over others.")] = "worker"
    state: Annotated[
        str, _doc("What the supervisor sees: starting, running, backoff, stopping, stopped or failed.")
    ] = "starting"
    detail: Annotated[str, _doc("What the actor itself says it is doing; one line.")] = ""
    restarts: Annotated[int, _doc("Crashes answered with a restart since the process started.")] = 0
    retries: Annotated[int, _doc("Starts over that were no crash: a server away, or a wanted rewind.")] = 0
    last_error: Annotated[
        str | None, _doc("The last crash in one line; without any, why it last started over; null = neither.")
    ] = None
    waiting_for: Annotated[str | None, _doc("Which outside party it waits for just now; null = none.")] = None
    children: Annotated[tuple[ActorView, ...], _doc("The actors below a supervisor, in start order.")] = ()


class ChannelView(View, frozen=True):
    """One bounded channel between two actors."""

    name: Annotated[str, _doc("The actors at its ends.")]
    capacity: Annotated[int, _doc("Items it can hold.")]
    fill: Annotated[int, _doc("Items in it just now.")] = 0
    peak: Annotated[int, _doc("The most items it has held.")] = 0


class BudgetView(View, frozen=True):
    """The byte budget over everything between PostgreSQL's socket and Kafka's acknowledgement."""

    limit: Annotated[int, _doc("Bytes the pipeline may hold in memory at once.")] = 0
    used: Annotated[int, _doc("Bytes it holds just now. At the limit nothing more is read from PostgreSQL.")] = 0


class SinkView(View, frozen=True):
    """One sink."""

    id: Annotated[str, _doc("The sink's id in the configuration.")]
    type: Annotated[str, _doc("The sink's type in the configuration.")]
    state: Annotated[str, _doc("starting, running, waiting, standby, blocked or detached (see `detail`).")] = "starting"
    detail: Annotated[str, _doc("What the sink is doing or lacking; one line.")] = ""
    required: Annotated[bool, _doc("Whether `commit_policy: required` waits for it.")] = True
    position: Annotated[str | None, _doc("Last commit position it has stored durably; null = nothing yet.")] = None
    events: Annotated[int, _doc("Events stored durably since the process started.")] = 0
    commits: Annotated[
        int, _doc("Kafka transactions committed (for other sinks: flushes) since the process started.")
    ] = 0
    aborts: Annotated[int, _doc("Kafka transactions aborted or abandoned since the process started.")] = 0
    errors: Annotated[int, _doc("Failed sends, flushes and commits since the process started.")] = 0
    lag_events: Annotated[int, _doc("Events received but not yet durable in this sink.")] = 0


class SlotView(View, frozen=True):
    """The replication slot, as last looked at."""

    name: Annotated[str, _doc("The slot's name in PostgreSQL.")]
    exists: Annotated[bool | None, _doc("Whether it is there; null = not looked at yet.")] = None
    active_pid: Annotated[int, _doc("The server process that streams from it; 0 = none.")] = 0
    confirmed_flush: Annotated[str | None, _doc("Position PostgreSQL has been told is safe.")] = None
    restart_lsn: Annotated[str | None, _doc("Oldest WAL position PostgreSQL keeps for it.")] = None
    wal_status: Annotated[str, _doc("reserved, extended, unreserved or lost, as PostgreSQL says; empty = unknown.")] = (
        ""
    )
    retained_bytes: Annotated[int, _doc("WAL bytes PostgreSQL keeps on its disk for it.")] = 0


class PipelineView(View, frozen=True):
    """One pipeline."""

    name: Annotated[str, _doc("`metadata.name` of the configuration.")]
    tenant: Annotated[str, _doc("`metadata.tenant` of the configuration; may be empty.")] = ""
    state: Annotated[PipelineState, _doc("How it is; see Pipeline states.")] = "starting"
    since: Annotated[Time | None, _doc("When it came into this state (UTC).")] = None
    detail: Annotated[str, _doc("Why it is in this state and what to do about it; one line, may be empty.")] = ""
    epoch: Annotated[int, _doc("Replication streams begun since the process started.")] = 0
    positions: Annotated[PositionsView, _doc("How far it has come.")] = PositionsView()
    lag: Annotated[LagView, _doc("How far behind its slowest needed sink is.")] = LagView()
    rates: Annotated[RatesView, _doc("How fast it goes.")] = RatesView()
    actors: Annotated[
        ActorView | None, _doc("The tree of actors, from the pipeline's supervisor down; null = not started.")
    ] = None
    channels: Annotated[
        tuple[ChannelView, ...], _doc("The channels between the actors, in the direction of the data.")
    ] = ()
    budget: Annotated[BudgetView, _doc("The byte budget.")] = BudgetView()
    sinks: Annotated[tuple[SinkView, ...], _doc("The sinks, in the order of the configuration.")] = ()
    slot: Annotated[SlotView | None, _doc("The replication slot; null for sources without one.")] = None


class Health(View, frozen=True):
    """Answer of /health: can the process work, or wait for work?"""

    ok: Annotated[bool, _doc("False when restarting the process is the only thing left.")]
    problems: Annotated[tuple[str, ...], _doc("Everything that is wrong, one line each, also while `ok` is true.")] = ()

    @property
    def word(self) -> Literal["ok", "degraded", "failed"]:
        """`ok`, `degraded` (works or waits, but something is wrong) or `failed`."""
        if not self.ok:
            return "failed"
        return "degraded" if self.problems else "ok"


class Ready(View, frozen=True):
    """Answer of /ready: does every pipeline do its work, or stand by for it?"""

    ok: Annotated[bool, _doc("True when every pipeline is running, standing by, or done.")]
    reasons: Annotated[tuple[str, ...], _doc("Why not, one line for each pipeline that is not ready.")] = ()

    @property
    def word(self) -> Literal["ready", "not ready"]:
        """`ready` or `not ready`."""
        return "ready" if self.ok else "not ready"


class Status(Protocol):
    """What the admin HTTP may ask. Every method returns at once with a picture; none changes anything."""

    def pipelines(self) -> tuple[PipelineView, ...]:
        """All pipelines, in the order of their names."""
        ...

    def pipeline(self, name: str) -> PipelineView | None:
        """The pipeline of that name, None when there is none."""
        ...

    def health(self) -> Health:
        """Whether the process can work or wait, and what is wrong."""
        ...

    def ready(self) -> Ready:
        """Whether every pipeline works or stands by."""
        ...


def judge_health(views: tuple[PipelineView, ...]) -> Health:
    """Health of a process with these pipelines: failed when no pipeline is left that could work or wait.

    A start that does not get on, because a server is away, says so in its detail and is a problem too. So is a sink
    that the others go on without.
    """
    stopped = (_line(view) for view in views if view.state in ("blocked", "refused", "failed") or _is_stuck(view))
    problems = (*stopped, *(line for view in views for line in _left_behind(view)))
    ended = [view for view in views if view.state in ("refused", "failed")]
    return Health(ok=not views or len(ended) < len(views), problems=problems)


def judge_ready(views: tuple[PipelineView, ...]) -> Ready:
    """Readiness of a process with these pipelines. A standby is ready: it does what it is there for."""
    reasons = tuple(_line(view) for view in views if view.state not in ("running", "standby", "stopped"))
    return Ready(ok=bool(views) and not reasons, reasons=reasons if views else ("no pipeline has been started",))


def _is_stuck(view: PipelineView) -> bool:
    return view.state == "starting" and bool(view.detail)


def _left_behind(view: PipelineView) -> Iterator[str]:
    for sink in view.sinks:
        if sink.state == "detached":
            yield f"pipeline {view.name}: sink {sink.id} is detached: {sink.detail}"


def _line(view: PipelineView) -> str:
    return f"pipeline {view.name} is {view.state}" + (f": {view.detail}" if view.detail else "")
