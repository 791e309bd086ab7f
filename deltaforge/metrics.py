"""Every metric deltaforge has: each name once, and plain methods to move it.

Rule 1: labels are names from the configuration or the code, never values from rows or servers: their number is bounded.
Rule 2: a pipeline's and a sink's series exist from its construction on, so that a rate over the first event is right.
Rule 3: the registry is our own; nothing else of the process shows up in it.

prometheus_client locks each series, so all methods may be called from any thread.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from deltaforge import __version__
from deltaforge.status import PIPELINE_STATES

# Half as many lines for whoever scrapes; nobody asks when a counter was made.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry(auto_describe=True)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PIPELINE = ("pipeline", "tenant")
_SINK = ("pipeline", "sink", "tenant")

_ERRORS = ("TransientError", "OperatorError")
"""Kinds that exist from the start, at zero, so that an alert sees the first one."""
_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def _counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, labels: tuple[str, ...]) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY)


BUILD_INFO = _gauge(
    "deltaforge_build_info", "Always 1; the labels say which version and which encoder run.", ("version", "encoder")
)
HEALTH = _gauge("deltaforge_health", "1 for the state word that /health gives: ok, degraded or failed.", ("state",))

EVENTS_SENT = _counter("deltaforge_sink_events_sent_total", "Events durably committed by the sink.", _SINK)
SEND_LATENCY = Histogram(
    "deltaforge_sink_send_latency_seconds",
    "Time from the first produce of a Kafka transaction (or the first write of a batch) to its commit.",
    _SINK,
    buckets=_LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
SINK_ERRORS = _counter("deltaforge_sink_errors_total", "Failed sends, flushes and commits, by kind.", (*_SINK, "kind"))
LAG_EVENTS = _gauge("deltaforge_checkpoint_lag_events", "Events received and not yet durable in the sink.", _SINK)
LAG_BYTES = _gauge(
    "deltaforge_checkpoint_lag_bytes", "WAL bytes between the server's newest position and the sink's.", _SINK
)
LAG_SECONDS = _gauge(
    "deltaforge_checkpoint_lag_seconds",
    "Seconds since the commit of the oldest event that is not durable in the sink.",
    _SINK,
)
COMMITS = _counter(
    "deltaforge_sink_transactions_committed_total", "Kafka transactions committed (other sinks: flushes).", _SINK
)
ABORTS = _counter("deltaforge_sink_transactions_aborted_total", "Kafka transactions aborted or abandoned.", _SINK)

RECEIVED_EVENTS = _counter("deltaforge_received_events_total", "Events received from PostgreSQL.", _PIPELINE)
RECEIVED_BYTES = _counter("deltaforge_received_bytes_total", "Bytes of the replication stream received.", _PIPELINE)
PIPELINE_STATE = _gauge(
    "deltaforge_pipeline_state", "1 for the state the pipeline is in, else 0.", (*_PIPELINE, "state")
)
EPOCH = _gauge("deltaforge_pipeline_epoch", "Replication streams begun since the process started.", _PIPELINE)
SLOT_RETAINED = _gauge("deltaforge_slot_retained_bytes", "WAL bytes PostgreSQL keeps for the slot.", _PIPELINE)
BUDGET_USED = _gauge("deltaforge_budget_used_bytes", "Bytes the pipeline holds in memory.", _PIPELINE)
BUDGET_LIMIT = _gauge("deltaforge_budget_limit_bytes", "Bytes the pipeline may hold in memory.", _PIPELINE)
CHANNEL_FILL = _gauge(
    "deltaforge_channel_fill_ratio", "Items in the channel, as a part of its capacity.", (*_PIPELINE, "channel")
)
ACTOR_RESTARTS = _counter(
    "deltaforge_actor_restarts_total",
    "Crashes answered with a restart; without a pipeline's name: of the admin HTTP.",
    (*_PIPELINE, "actor"),
)
ACTOR_RETRIES = _counter("deltaforge_actor_retries_total", "Starts over that were no crash.", (*_PIPELINE, "actor"))


class SinkMetrics:
    """The series of one sink."""

    def __init__(self, pipeline: str, sink: str, tenant: str) -> None:
        self._labels = (pipeline, sink, tenant)
        self._sent = EVENTS_SENT.labels(*self._labels)
        self._latency = SEND_LATENCY.labels(*self._labels)
        self._commits = COMMITS.labels(*self._labels)
        self._aborts = ABORTS.labels(*self._labels)
        for kind in _ERRORS:
            SINK_ERRORS.labels(*self._labels, kind)
        self._lag_events = LAG_EVENTS.labels(*self._labels)
        self._lag_bytes = LAG_BYTES.labels(*self._labels)
        self._lag_seconds = LAG_SECONDS.labels(*self._labels)

    def events_sent(self, count: int) -> None:
        """`count` more events are durably committed."""
        self._sent.inc(count)

    def observe_latency(self, seconds: float) -> None:
        """One transaction or batch took `seconds` from its first produce to its commit."""
        self._latency.observe(seconds)

    def error(self, kind: str) -> None:
        """A send, flush or commit failed. `kind` is a fixed word or librdkafka's error name, never a message."""
        SINK_ERRORS.labels(*self._labels, kind).inc()

    def committed(self) -> None:
        """One Kafka transaction (or flush) is committed."""
        self._commits.inc()

    def aborted(self) -> None:
        """One Kafka transaction was aborted, or abandoned with its producer."""
        self._aborts.inc()

    def lag(self, events: int, *, nbytes: int | None = None, seconds: float | None = None) -> None:
        """How far the sink is behind. What is None keeps its last value."""
        self._lag_events.set(events)
        if nbytes is not None:
            self._lag_bytes.set(nbytes)
        if seconds is not None:
            self._lag_seconds.set(seconds)


class PipelineMetrics:
    """The series of one pipeline; `sink(id)` gives those of a sink."""

    def __init__(self, pipeline: str, tenant: str = "") -> None:
        self._labels = (pipeline, tenant)
        self._sinks: dict[str, SinkMetrics] = {}
        self._events = RECEIVED_EVENTS.labels(*self._labels)
        self._bytes = RECEIVED_BYTES.labels(*self._labels)
        self._retained = SLOT_RETAINED.labels(*self._labels)
        self._epoch = EPOCH.labels(*self._labels)
        self._budget_used = BUDGET_USED.labels(*self._labels)
        self._budget_limit = BUDGET_LIMIT.labels(*self._labels)
        self.state("starting")

    def sink(self, sink_id: str) -> SinkMetrics:
        """The series of the sink with that id; the same object every time."""
        if sink_id not in self._sinks:
            pipeline, tenant = self._labels
            self._sinks[sink_id] = SinkMetrics(pipeline, sink_id, tenant)
        return self._sinks[sink_id]

    def received(self, events: int, nbytes: int) -> None:
        """`events` more events in `nbytes` more stream bytes came from PostgreSQL."""
        self._events.inc(events)
        self._bytes.inc(nbytes)

    def state(self, state: str) -> None:
        """The pipeline is in `state`, one of status.PIPELINE_STATES."""
        for name in PIPELINE_STATES:
            PIPELINE_STATE.labels(*self._labels, name).set(1 if name == state else 0)

    def epoch(self, number: int) -> None:
        """Replication stream `number` has begun."""
        self._epoch.set(number)

    def slot_retained(self, nbytes: int) -> None:
        """PostgreSQL keeps `nbytes` of WAL for the slot."""
        self._retained.set(nbytes)

    def budget(self, used: int, limit: int) -> None:
        """The pipeline holds `used` of `limit` bytes."""
        self._budget_used.set(used)
        self._budget_limit.set(limit)

    def channel_fill(self, channel: str, fill: int, capacity: int) -> None:
        """`channel` holds `fill` of `capacity` items. A channel without room is full by definition."""
        CHANNEL_FILL.labels(*self._labels, channel).set(fill / capacity if capacity else 1.0)

    def actor(self, actor: str) -> None:
        """Let the counters of `actor` exist, at zero."""
        ACTOR_RESTARTS.labels(*self._labels, actor)
        ACTOR_RETRIES.labels(*self._labels, actor)

    def restarted(self, actor: str) -> None:
        """`actor` crashed and is started again."""
        ACTOR_RESTARTS.labels(*self._labels, actor).inc()

    def retried(self, actor: str) -> None:
        """`actor` starts over without having crashed."""
        ACTOR_RETRIES.labels(*self._labels, actor).inc()


def admin_restarted(actor: str) -> None:
    """`actor` of the admin HTTP, which belongs to no pipeline, crashed and is started again."""
    ACTOR_RESTARTS.labels("", "", actor).inc()


def build_info(encoder: str) -> None:
    """Say which encoder this process runs (`python` or `compiled`)."""
    BUILD_INFO.clear()
    BUILD_INFO.labels(__version__, encoder).set(1)


def exposition(state_word: str) -> bytes:
    """All metrics in Prometheus' text format; `state_word` is what /health says just now."""
    HEALTH.clear()
    HEALTH.labels(state_word).set(1)
    return generate_latest(REGISTRY)


def state_only(state_word: str) -> bytes:
    """The health metric alone, for callers that may not see more."""
    registry = CollectorRegistry()
    Gauge(HEALTH._name, HEALTH._documentation, ("state",), registry=registry).labels(state_word).set(1)
    return generate_latest(registry)
