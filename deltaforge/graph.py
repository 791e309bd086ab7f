"""Build the actors of one pipeline and the channels and cells between them."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from actors import Cell, Mailbox
from deltaforge.attachment import Attachment, Budgets, Rewinds
from deltaforge.batcher.actor import BatcherActor
from deltaforge.checkpoint.actor import CheckpointActor
from deltaforge.checkpoint.record import encode as encode_record
from deltaforge.checkpoint.topic import CheckpointTopic
from deltaforge.config.schema import FileSinkConfig, KafkaSinkConfig, MemorySinkConfig
from deltaforge.encoding import encoder_spec, occasional_topics, topics_beside
from deltaforge.envelopes.base import make_encoder
from deltaforge.envelopes.heartbeat import heartbeat_of
from deltaforge.envelopes.topics import topic_name, varies_by_row
from deltaforge.logs import get_logger
from deltaforge.model import Batch, Confirm, Lease, Lsn, Receipt, Segment, WalChunk
from deltaforge.monitor import Monitor, Sample
from deltaforge.sinks.base import SinkWiring
from deltaforge.sinks.file import FileSink
from deltaforge.sinks.kafka.actor import KafkaSinkActor
from deltaforge.sinks.kafka.client_conf import aws_region, build_client_conf
from deltaforge.sinks.kafka.oauth import token_source
from deltaforge.sinks.kafka.opening import Identity
from deltaforge.sinks.kafka.topics import create_missing
from deltaforge.sinks.kafka.wiring import KafkaWiring
from deltaforge.sinks.memory import MemorySink
from deltaforge.sinks.stdout import StdoutSink
from deltaforge.source.drift import Catalog
from deltaforge.source.faults import SlotExists
from deltaforge.source.reader import ReaderActor
from deltaforge.source.slot import create_slot, options_fingerprint
from deltaforge.source.stream import Gate
from deltaforge.sparing import Sparing
from deltaforge.startup import FirstStart
from deltaforge.transactions.actor import AssemblerActor
from deltaforge.transactions.assembler import split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deltaforge.config.schema import Pipeline as PipelineConfig
    from deltaforge.config.schema import Sink
    from deltaforge.envelopes.base import Encoder, EncoderSpec
    from deltaforge.metrics import PipelineMetrics
    from deltaforge.runtime import RunOptions
    from deltaforge.source.sql import ControlSession
    from deltaforge.status import PipelineState

log = get_logger("pipeline")

_CHUNKS, _SEGMENTS, _BATCHES, _BATCHES_OF_SPARED = 4, 4, 4, 4096

SinkActor = KafkaSinkActor | FileSink | StdoutSink | MemorySink


class SinkUnit:
    """One sink: its actor and its ends of the shared cells."""

    def __init__(self, sink: Sink, capacity: int) -> None:
        self.id, self.config = sink.config.id, sink.config
        self.type = type(sink).__struct_config__.tag
        self.required = sink.config.required
        self.inbox: Mailbox[Lease | Batch] = Mailbox(capacity, name=f"batcher -> {self.id}")
        self.gate: Cell[int] = Cell(0, name=f"gate of {self.id}")
        self.receipts: Cell[Receipt | None] = Cell(None, name=f"receipts of {self.id}")
        self.attachment: Attachment
        self.spec: EncoderSpec
        self.checkpoint: CheckpointTopic | None = None
        self.origin: CheckpointTopic | None = None
        """The same topic for the first start, which may look at it while the sink does."""
        self.actor: Any = None


class Graph:
    """Everything of one pipeline that survives the restart of an actor."""

    def __init__(
        self,
        config: PipelineConfig,
        metrics: PipelineMetrics,
        options: RunOptions,
        control: ControlSession,
        *,
        instance: str,
        said: Callable[[], object],
    ) -> None:
        self.config, self.metrics, self._options, self._control = config, metrics, options, control
        self._instance, self._said = instance, said
        source, batch = config.spec.source.config, config.spec.batch
        self._fingerprint = options_fingerprint(source.publication)
        self.epoch: Cell[int] = Cell(0, name="epoch")
        self.rewind: Cell[int] = Cell(0, name="a rewind")
        self.flush: Cell[Confirm] = Cell(Confirm(0, Lsn(0)), name="a confirmation")
        self.chunks: Mailbox[Lease | WalChunk] = Mailbox(_CHUNKS, name="reader -> assembler")
        self.segments: Mailbox[Lease | Segment] = Mailbox(_SEGMENTS, name="assembler -> batcher")
        self.units = [SinkUnit(sink, self._capacity(sink)) for sink in config.spec.sinks]
        self.reports: dict[str, tuple[str, str]] = {}
        self._encoders: list[Encoder] = []
        self._sparing = self._sparing_of(config)
        for unit in self.units:
            unit.attachment = Attachment(
                unit.inbox, partial(self._sparing.dispensable, unit.id), self._reporter(unit.id)
            )
            unit.actor = self._sink(unit)
        self.budget = Budgets([unit.attachment for unit in self.units])
        self.first_start = self._first_start()
        self.checkpointer = CheckpointActor(
            mode=config.spec.commit_policy.mode,
            quorum=config.spec.commit_policy.quorum,
            receipts={unit.id: unit.receipts for unit in self.units},
            required={unit.id: unit.required for unit in self.units},
            epoch=self.epoch,
            flush=self.flush,
            hold_s=config.spec.source.config.slot_lag_seconds,
        )
        self.batcher = BatcherActor(
            inbox=self.segments,
            outboxes=[unit.attachment for unit in self.units],
            settings=batch,
            split=split,
            epoch=self.epoch,
            rewind=self.rewind,
        )
        self.assembler = AssemblerActor(inbox=self.chunks, outbox=self.segments, epoch=self.epoch, rewind=self.rewind)
        self.reader = self._reader()
        self.monitor = self._monitor()

    # ---- parts

    def _capacity(self, sink: Sink) -> int:
        """A sink that may be left behind is bounded by its byte budget, not by the number of batches."""
        mode = self.config.spec.commit_policy.mode
        needed = mode == "all" or (mode == "required" and sink.config.required)
        return _BATCHES if needed else _BATCHES_OF_SPARED

    def _reader(self) -> ReaderActor:
        source = self.config.spec.source.config
        return ReaderActor(
            dsn=source.dsn,
            slot=source.slot,
            publication=source.publication,
            control=self._control,
            prepare=self.first_start.prepare,
            outbox=self.chunks,
            budget=self.budget,
            weight=1,
            epoch=self.epoch,
            rewind=self.rewind,
            flush=self.flush,
            gates=[Gate(unit.gate, required=self.needs(unit)) for unit in self.units],
            report=self._reporter("reader"),
            stop_grace_s=2.0,
            catalog=Catalog(source.tables, halt_on_drift=source.on_schema_drift == "halt"),
        )

    def _first_start(self) -> FirstStart:
        source = self.config.spec.source.config
        return FirstStart(
            slot=source.slot,
            publication=source.publication,
            options=self._fingerprint,
            instance=self._instance,
            origins=[unit.origin for unit in self.units if unit.origin is not None],
            make_slot=self._make_slot,
            prepare_topics=self._prepare_topics,
            patterns=source.tables,
            adopt=self._adopt(),
            accept_gap=self._options.accept_gap or Lsn(0),
            optional=frozenset(u.origin.name for u in self.units if u.origin is not None and not self.needs(u)),
            enough=self._enough,
        )

    def _enough(self, origins: frozenset[str]) -> bool:
        """Whether the commit policy needs no other Kafka sinks than those with these checkpoint topics."""
        return self._sparing.enough([u.id for u in self.units if u.origin is None or u.origin.name in origins])

    def _adopt(self) -> Lsn:
        """`--adopt-slot`, or a start_position that names an LSN, which says the same."""
        if self._options.adopt_slot is not None:
            return self._options.adopt_slot
        start = self.config.spec.source.config.start_position
        return Lsn.parse(start) if "/" in start else Lsn(0)

    def _monitor(self) -> Monitor:
        return Monitor(
            pipeline=self.config.metadata.name,
            metrics=self.metrics,
            sample=self._sample,
            sinks={unit.id: unit.actor for unit in self.units},
            flushed=lambda sink: next(u.actor.statistics().flush_lsn for u in self.units if u.id == sink),
            channels=self.channels(),
            budget=self.budget,
            slot=self._control.slot_state,
            omitted=lambda: (column for encoder in self._encoders for column in encoder.omitted),
        )

    def channels(self) -> Sequence[Mailbox[Any]]:
        """All channels, in the direction of the data."""
        return [self.chunks, self.segments, *(unit.inbox for unit in self.units)]

    def _sample(self) -> Sample:
        assembler, reader = self.assembler, self.reader.statistics()
        return Sample(
            time.monotonic(),
            self.epoch.value,
            assembler.epoch_events,
            assembler.commit_time_us,
            assembler.events,
            reader.bytes,
            sum(unit.actor.statistics().events for unit in self.units),
        )

    # ---- sinks

    def _sink(self, unit: SinkUnit) -> SinkActor:
        if isinstance(unit.config, KafkaSinkConfig):
            return self._kafka(unit, unit.config)
        wiring = SinkWiring(
            inbox=unit.inbox,
            gate=unit.gate,
            receipts=unit.receipts,
            epoch=self.epoch,
            rewind=Rewinds(self.rewind, unit.attachment),
            budget=unit.attachment.budget,
            encoder=self._encoder(unit),
            metrics=self.metrics.sink(unit.id),
            report=self._sink_reporter(unit),
            spared=partial(self._sparing.spared, unit.id),
            passed_over=lambda: unit.attachment.passed_over,
        )
        if isinstance(unit.config, FileSinkConfig):
            return FileSink(wiring, path=unit.config.path)
        if isinstance(unit.config, MemorySinkConfig):
            return MemorySink(wiring)
        return StdoutSink(wiring)

    def _encoder(self, unit: SinkUnit) -> Encoder:
        unit.spec = encoder_spec(
            unit.config.envelope,
            self.config.metadata,
            topic=str(unit.config.topic) if isinstance(unit.config, KafkaSinkConfig) else None,
            key=str(getattr(unit.config, "key", None) or ""),
            database=self.config.spec.source.config.dsn.dbname,
            key_uniqueness=getattr(unit.config, "key_uniqueness", True),
            position_headers=getattr(unit.config, "position_headers", False),
        )
        encoder = make_encoder(unit.spec)
        # Some options are only written by the Python encoder, whatever was built.
        log.info("encoder", pipeline=self.config.metadata.name, sink=unit.id, encoder=encoder.name)
        self._encoders.append(encoder)
        return encoder

    def _kafka(self, unit: SinkUnit, config: KafkaSinkConfig) -> KafkaSinkActor:
        name = f"{self.config.metadata.name}.{config.id}"
        client = build_client_conf(config, transactional_id=f"deltaforge.{name}", aws_region=aws_region(os.environ))
        data = client.reveal()
        oauth = token_source(client.oauth)
        connection: dict[str, object] = dict(client.reveal_connection())
        if oauth is not None:
            connection["oauth_cb"] = oauth
        unit.checkpoint = CheckpointTopic(f"_deltaforge.{name}", connection, instance=self._instance)
        unit.origin = CheckpointTopic(f"_deltaforge.{name}", connection, instance=self._instance)
        return KafkaSinkActor(
            KafkaWiring(
                config=config,
                batching=self.config.spec.batch,
                inbox=unit.inbox,
                gate=unit.gate,
                receipts=unit.receipts,
                epoch=self.epoch,
                rewind=Rewinds(self.rewind, unit.attachment),
                budget=unit.attachment.budget,
                spared=partial(self._sparing.spared, unit.id),
                encoder=self._encoder(unit),
                metrics=self.metrics.sink(unit.id),
                report=self._sink_reporter(unit),
                checkpoint=unit.checkpoint,
                identity=Identity(self.config.spec.source.config.publication, self._fingerprint, self._instance),
                slot=self._control.slot_state,
                encode_record=encode_record,
                expected_topics=lambda: self._topics(unit.spec),
                occasional_topics=occasional_topics(unit.spec),
                connection=connection,
                data_properties=data,
                ledger_properties=data if config.exactly_once else client.reveal_checkpoint_producer(),
                oauth=oauth,
                transaction_timeout_s=client.transaction_timeout_ms / 1000,
                accept_gap=self._options.accept_gap or Lsn(0),
                heartbeat=heartbeat_of(unit.spec),
                now_ns=time.time_ns,
            )
        )

    # ---- what the first start asks for

    async def _make_slot(self) -> Lsn | None:
        source = self.config.spec.source.config
        try:
            return await create_slot(source.dsn, source.slot, failover=source.failover)
        except SlotExists:
            return None

    def _topics_of(self, spec: EncoderSpec, tables: Sequence[str]) -> tuple[str, ...]:
        """The topics that must be there, those of the tables first."""
        split_names = (table.partition(".") for table in tables)
        # Topics that depend on the row are known when the row comes.
        names = () if varies_by_row(spec.topic) else split_names
        of_tables = (topic_name(spec, schema, table) for schema, _, table in names)
        return tuple(dict.fromkeys([*of_tables, *topics_beside(spec)]))

    async def _topics(self, spec: EncoderSpec) -> tuple[str, ...]:
        return self._topics_of(spec, self.first_start.tables)

    async def _prepare_topics(self, tables: Sequence[str]) -> str | None:
        """Create missing data topics where the configuration says so; name one that the checkpoint topic may follow."""
        like = None
        for unit in self.units:
            if isinstance(unit.config, KafkaSinkConfig):
                topics = self._topics_of(unit.spec, tables)
                if unit.config.create_topics is not None:
                    wanted = (*topics, *occasional_topics(unit.spec))
                    await create_missing(wanted, unit.config.create_topics, unit.actor.connection)
                like = like or next(iter(topics), None)
        return like

    # ---- judging

    def needs(self, unit: SinkUnit) -> bool:
        """Whether the commit policy waits for this sink."""
        return self._sparing.needs(unit.id)

    def _sparing_of(self, config: PipelineConfig) -> Sparing:
        units = {unit.id: unit for unit in self.units}
        return Sparing(
            config.spec.commit_policy,
            {unit.id: unit.required for unit in self.units},
            delivers=lambda sink: self._delivers(units[sink]),
            parked=lambda sink: self._parked(units[sink]),
        )

    def _delivers(self, unit: SinkUnit) -> bool:
        """In this epoch: what it said in the last one stands until it takes the Lease, and its guard may refuse."""
        passed = unit.gate.value >= self.epoch.value
        return passed and unit.attachment.attached and self.reports.get(unit.id, ("", ""))[0] == "running"

    def _parked(self, unit: SinkUnit) -> bool:
        """By its own guard: one that we left behind comes back with the next epoch."""
        return unit.attachment.attached and self.reports.get(unit.id, ("", ""))[0] == "detached"

    def _sink_reporter(self, unit: SinkUnit) -> Callable[[str, str], None]:
        report = self._reporter(unit.id)

        def report_of_sink(state: str, detail: str) -> None:
            report(state, detail)
            if state == "detached":
                self._bring_back(unit)

        return report_of_sink

    def _bring_back(self, parked: SinkUnit) -> None:
        """Whom we left behind may be needed now that `parked` does nothing; only a new epoch attaches them again."""
        left_behind = any(not other.attachment.attached for other in self.units)
        if left_behind and not self._sparing.dispensable(parked.id):
            self.rewind.raise_to(self.epoch.value)

    def _reporter(self, who: str) -> Callable[[str, str], None]:
        def report(state: str, detail: str) -> None:
            self.reports[who] = (state, detail)
            self._said()

        return report

    def judge(self) -> tuple[PipelineState, str]:
        """The pipeline's state, from what reader and sinks last said: the worst that matters."""
        said = [(who, *self.reports.get(who, ("starting", ""))) for who in ("reader", *(u.id for u in self.units))]
        for state, words in (("refused", "refused"), ("blocked", "blocked")):
            for who, now, detail in said:
                if now == words:
                    return state, f"{who}: {detail}"  # type: ignore[return-value]
        if said[0][1] == "standby":
            return "standby", said[0][2]
        for who, now, detail in said:
            if now == "waiting":
                return "starting", f"{who} is waiting: {detail}"
        # A start that goes as it should needs no reason: whoever has one is taken for a problem.
        return ("running", "") if all(now in ("running", "detached") for _, now, _ in said) else ("starting", "")

    async def aclose(self) -> None:
        """Let connections to checkpoint topics go."""
        for unit in self.units:
            for topic in (unit.checkpoint, unit.origin):
                if topic is not None:
                    await topic.aclose()
