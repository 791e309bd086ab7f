"""The servers behind their proxies, one pipeline between them, writers before it and a reader behind it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from deltaforge.embedded.postgres import PostgresServer
from tests.ledger.pipeline import ledger, subject_of
from tests.ledger.witness import Witness
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import FULL
from tests.proxy.cluster import ProxiedKafka
from tests.proxy.proxy import Proxy
from tests.support.databases import create_database, drop_database
from tests.support.kafka_topics import create_topic, ends_of
from tests.support.pipelines import write
from tests.support.process import Deltaforge
from tests.support.transaction_log import read_transaction_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.ledger.pipeline import Subject
    from tests.support.databases import Database
    from tests.support.pipelines import Document

PARTITIONS = 3
ROWS_PER_S = 400.0
RECOVER_S = 120.0
"""Longest wait for the first new event once everything is mended: then liveness is broken."""


_STREAMS = "select application_name, state, sent_lsn, replay_lsn, pg_current_wal_lsn() from pg_stat_replication"


class Trouble(Exception):
    """Something happened that no recoverable fault may cause."""


@dataclass
class Servers:
    """PostgreSQL and Kafka, each behind a proxy; they outlive a round."""

    postgres: PostgresServer = field(
        default_factory=lambda: PostgresServer(options={"max_prepared_transactions": "20", "wal_sender_timeout": "10s"})
    )
    # In an hour compaction takes away the markers by which the ledger tells with which rows a checkpoint was committed.
    kafka: ProxiedKafka = field(default_factory=lambda: ProxiedKafka(options={"log.cleaner.enable": "false"}))
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.postgres.host, self.postgres.port)

    def heal(self) -> None:
        """Lift whatever a proxy does, and start what does not run."""
        self.proxy.heal()
        self.kafka.heal()
        if not self.postgres.running:
            self.postgres.start()
        for node in self.kafka.cluster.nodes:
            if not node.running:
                self.kafka.cluster.start_node(node.node_id)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.postgres)
            stack.enter_context(self.proxy)
            stack.enter_context(self.kafka)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Stage:
    """One round: a database, a topic and a pipeline of its own."""

    rows_per_s: float | None = ROWS_PER_S
    """Of all writers together; None = as fast as they can."""

    def __init__(self, servers: Servers, name: str, seed: int, directory: Path) -> None:
        self.servers, self.name, self._seed = servers, name, seed
        self._directory = directory
        self._stack = ExitStack()
        self.recovered_s: list[float] = []
        """Seconds from the mending of a fault to the first new event that a reader saw."""
        self.kills = 0

    @property
    def kafka(self) -> ProxiedKafka:
        """The brokers."""
        return self.servers.kafka

    @property
    def postgres(self) -> PostgresServer:
        """The server."""
        return self.servers.postgres

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.database: Database = create_database(self.postgres)
            stack.callback(drop_database, self.database)
            make_tables(self.database.dsn(), ledger=True)
            self.topic = self.make_topic(f"{self.name}.events")
            self.product = self.instance()
            stack.callback(lambda: self.product.close())
            # The slot has to stand before the first row.
            self.product.start()
            self.product.wait_ready()
            subject, dsn = self.subject, self.database.dsn()
            self.witness = stack.enter_context(Witness(subject, self.kafka.cluster, dsn, bootstrap=self.kafka.direct))
            self.load = Workload(self.database.dsn(), seed=self._seed, rows_per_s=self.rows_per_s, plan=FULL)
            self.load.start()
            stack.callback(self.load.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def instance(self) -> Deltaforge:
        """Another process for the same pipeline, not started; it reaches the servers through the proxies only."""
        file = write(self._directory / f"{self.name}.yaml", self.document())
        dsn = self.database.dsn().replace(f":{self.postgres.port}/", f":{self.servers.proxy.port}/")
        return Deltaforge(file, {"POSTGRES_DSN": dsn, "KAFKA_BROKERS": self.kafka.bootstrap}, name=self.name)

    def document(self) -> Document:
        """The pipeline."""
        return ledger(self.name, self.topic)

    @property
    def subject(self) -> Subject:
        """The names it has in both servers."""
        return subject_of(self.document())

    def make_topic(self, name: str) -> str:
        """Make the data topic and return its name."""
        return create_topic(self.kafka.direct, name, PARTITIONS)

    # ---- for faults

    def kill(self) -> None:
        """SIGKILL to the process."""
        self.product.kill9()
        self.kills += 1

    def take_over(self, other: Deltaforge) -> None:
        """From now on `other` is the process."""
        former, self.product = self.product, other
        self._stack.callback(other.close)
        if former.running:
            former.kill9()

    def mend(self) -> None:
        """Heal the servers, and start the process if somebody killed it.

        Raises Trouble when it ended by itself: of a fault that passes it has to recover alone.
        """
        self.servers.heal()
        if not self.product.running:
            code = self.product.wait()
            if code not in (0, -9):
                raise Trouble(f"the process ended by itself with {code}:\n{self.product.tail()}")
            self.product.start()

    def recover(self) -> None:
        """Wait for a new event. Raises Trouble when none comes, or the process ends."""
        began, seen = time.monotonic(), self.witness.count
        while self.witness.count == seen:
            if not self.product.running:
                raise Trouble(f"the process ended by itself with {self.product.wait()}:\n{self.product.tail()}")
            if time.monotonic() - began > RECOVER_S:
                raise Trouble(f"no new event within {RECOVER_S:.0f} s\n{self._circumstances()}\n{self.product.tail()}")
            time.sleep(0.02)
        self.recovered_s.append(time.monotonic() - began)

    def _circumstances(self) -> str:
        """Who it is that stands still: the writers, the stream, the product, the brokers or the reader."""
        asked = {
            "reader": lambda: f"{self.witness.count} records, {self.witness.failure or 'reading'}",
            "writers": lambda: f"{self.load.rows} rows",
            "pipeline": lambda: self.product.pipeline(self.name),
            "streams": lambda: self.database.rows(_STREAMS),
            "ends, committed": lambda: ends_of(self.kafka.direct, [self.topic]),
            "ends, all": lambda: ends_of(self.kafka.direct, [self.topic], "read_uncommitted"),
            "transactions": lambda: read_transaction_log(self.kafka.direct).states,
        }
        return "\n".join(f"{name}: {_answer(question)}" for name, question in asked.items())


def _answer(question: Callable[[], object]) -> object:
    try:
        return question()
    except Exception as error:
        return repr(error)
