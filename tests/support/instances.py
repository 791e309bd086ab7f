"""Pipelines with slots, topics and files of their own, and processes that run one or several of them."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.support.kafka_topics import create_topic
from tests.support.orders import wait_until
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database


@dataclass(frozen=True)
class Pipeline:
    """One pipeline's file, and the names it uses in both servers."""

    name: str
    file: Path

    @property
    def slot(self) -> str:
        """Its replication slot."""
        return self.name.replace("-", "_")

    @property
    def topic(self) -> str:
        """Its only data topic."""
        return f"{self.name}.events"

    @property
    def checkpoints(self) -> str:
        """Its checkpoint topic."""
        return f"_deltaforge.{self.name}.orders-kafka"


@dataclass(frozen=True)
class Standing:
    """What a refusal must not move."""

    confirmed: str | None
    """The slot's position."""
    records: int
    """In the data topic, uncommitted ones included."""
    checkpoints: int


@dataclass
class Site:
    """A database and a Kafka cluster that several processes work on; ends them all when it is left."""

    kafka: KafkaCluster
    database: Database
    directory: Path
    prefix: str
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.kafka.bootstrap()

    def pipeline(
        self, name: str, folder: str = "all", *, source: Mapping[str, Any] | None = None, **sink: object
    ) -> Pipeline:
        """A new pipeline in a folder of files, with empty topics. `source` and `sink` replace settings of these."""
        full = f"{self.prefix}-{name}"
        (self.directory / folder).mkdir(exist_ok=True)
        made = Pipeline(full, self.directory / folder / f"{name}.yaml")
        create_topic(self.bootstrap, made.topic)
        # What a test makes between two rows to move the slot is a logical message.
        create_topic(self.bootstrap, f"{full}.message")
        document = local(full, made.topic)
        document["spec"]["source"]["config"].update(source or {})
        kafka_config(document).update(sink)
        write(made.file, document)
        return made

    def process(
        self,
        file: Path,
        *arguments: str,
        name: str,
        database: Database | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Deltaforge:
        """A process for a file or folder, not started. `extra` is added to the servers' addresses."""
        servers = {"POSTGRES_DSN": (database or self.database).dsn(), "KAFKA_BROKERS": self.bootstrap}
        product = Deltaforge(file, {**servers, **(extra or {})}, arguments=arguments, name=name)
        self._stack.callback(product.close)
        return product

    def slot(self, pipeline: Pipeline) -> tuple[Any, ...] | None:
        """Confirmed position (None while it is made) and walsender of the slot; None when there is no such slot."""
        query = "select confirmed_flush_lsn::text, active_pid from pg_replication_slots where slot_name = %s"
        rows = self.database.rows(query, [pipeline.slot])
        return rows[0] if rows else None

    def confirmed(self, pipeline: Pipeline) -> str | None:
        """Confirmed position of the slot; None when there is no such slot."""
        slot = self.slot(pipeline)
        return slot[0] if slot else None

    def standing(self, pipeline: Pipeline) -> Standing:
        """Where its slot and its topics stand now."""
        topics = (pipeline.topic, pipeline.checkpoints)
        counts = (len(read(self.bootstrap, topic, committed=False)) for topic in topics)
        return Standing(self.confirmed(pipeline), *counts)

    def end_all(self) -> None:
        """SIGKILL to every process that still runs."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_all()


def states(product: Deltaforge) -> dict[str, str]:
    """The state of every pipeline in the process; empty while nobody answers."""
    status, body = product.ask("/pipelines")
    return {view["name"]: view["state"] for view in json.loads(body)} if status == 200 else {}


def wait_states(product: Deltaforge, pipelines: Sequence[Pipeline], state: str) -> None:
    """Block until all these pipelines are in that state."""
    wanted = dict.fromkeys((pipeline.name for pipeline in pipelines), state)
    wait_until(lambda: wanted.items() <= states(product).items(), f"{wanted}", lambda: alive(product))


def wait_told(product: Deltaforge, name: str, state: str, *words: str) -> str:
    """Block until a pipeline is in that state for a reason with these words. Returns all of the reason."""
    reasons = [""]

    def reached() -> bool:
        # Nobody answers in the first moments of a process.
        status, body = product.ask(f"/pipelines/{name}")
        view = json.loads(body) if status == 200 else {"state": "", "detail": ""}
        reasons[0] = view["detail"]
        return view["state"] == state and all(word in view["detail"] for word in words)

    wait_until(reached, f"{name} is {state}: {words}", lambda: alive(product))
    return reasons[0]


def wait_refused(product: Deltaforge, pipelines: Sequence[Pipeline]) -> list[str]:
    """Block until all these pipelines are refused and the operator was told. Returns all refusals so far."""
    wait_states(product, pipelines, "refused")
    told = [f"pipeline {pipeline.name} refused: " for pipeline in pipelines]
    # The line comes when the pipeline has ended, which is after the state.
    wait_until(lambda: all(words in product.text() for words in told), f"{told}", lambda: alive(product))
    return refusals(product)


def refusals(product: Deltaforge) -> list[str]:
    """The lines for the operator."""
    return [line for line in product.text().splitlines() if re.match(r"pipeline \S+ refused: ", line)]


def alive(product: Deltaforge) -> None:
    """Raises AssertionError with the end of the log when the process has ended."""
    if not product.running:
        raise AssertionError(f"ended with {product.wait()}:\n{product.tail()}")


def about(product: Deltaforge, pipeline: Pipeline) -> str:
    """The lines of its log that name this pipeline."""
    return "\n".join(line for line in product.text().splitlines() if f'"{pipeline.name}' in line)
