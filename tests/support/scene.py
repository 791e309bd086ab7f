"""Many pipelines in one process, each waiting for something of its own, and what is said about each in every place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import alive
from tests.support.kafka_topics import create_topic
from tests.support.orders import insert_orders, wait_for_orders, wait_until
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.databases import Database


@dataclass(frozen=True)
class Told:
    """What one pipeline says, in every place where somebody may look."""

    detail: str
    health: str
    ready: str
    log: str

    def says(self, *words: str) -> None:
        """Every place has one line with these words. Raises AssertionError."""
        for place in (self.detail, self.health, self.ready, self.log):
            assert not [word for word in words if word not in place], f"{words} in {place!r}"
            assert "\n" not in place


@dataclass
class Scene:
    """A process with a pipeline for each situation; `start` after the last `pipeline`."""

    directory: Path
    stack: ExitStack
    product: Deltaforge = field(init=False)
    variables: dict[str, str] = field(default_factory=dict)

    def database(self, server: PostgresServer) -> Database:
        """A new database with the tables and the publication, dropped at the end."""
        made = create_database(server)
        self.stack.callback(drop_database, made)
        make_tables(made.dsn())
        return made

    def pipeline(self, name: str, dsn: str, kafka: KafkaCluster, *, with_topic: bool = True, **sink: Any) -> None:
        """A file of its own, with its topic unless the topic is to be missing."""
        document = local(self.name(name), self.topic(name))
        variable = f"{name.upper().replace('-', '_')}_DSN"
        self.variables[variable] = dsn
        document["spec"]["source"]["config"]["dsn"] = f"${{{variable}}}"
        kafka_config(document).update({"brokers": kafka.bootstrap(), **sink})
        write(self.directory / f"{name}.yaml", document)
        if with_topic:
            create_topic(kafka.bootstrap(), self.topic(name))

    def name(self, name: str) -> str:
        """The pipeline's full name."""
        return f"{self.directory.name}-{name}"

    def topic(self, name: str) -> str:
        """Its data topic."""
        return f"{self.name(name)}.events"

    def start(self) -> None:
        """Start the process; it is ended with the scene."""
        self.product = Deltaforge(self.directory, self.variables, name="scene")
        self.stack.callback(self.product.close)
        self.product.start()
        wait_until(lambda: self.product.ask("/health")[0] == 200, "the admin HTTP answers", self.alive)

    def told(self, name: str, state: str, *words: str) -> Told:
        """Wait until it is in that state for that reason, and collect what is said about it."""
        full = self.name(name)

        def reached() -> bool:
            view = self.product.pipeline(full)
            return view["state"] == state and all(word in view["detail"] for word in words)

        wait_until(reached, f"{full} is {state}: {words}", self.alive)
        health, ready = (json.loads(self.product.ask(path)[1]) for path in ("/health", "/ready"))
        detail = self.product.pipeline(full)["detail"]
        return Told(detail, _about(full, health["problems"]), _about(full, ready["reasons"]), self._logged(full, words))

    def runs(self, name: str) -> None:
        """Wait until it works."""
        full = self.name(name)
        wait_until(lambda: self.product.pipeline(full)["state"] == "running", f"{full} runs", self.alive)

    def delivers(self, name: str, database: Database, kafka: KafkaCluster) -> None:
        """Wait until it works; a row that is written then arrives."""
        self.runs(name)
        insert_orders(database, [1])
        wait_for_orders(kafka.bootstrap(), self.topic(name), [1], self.alive)

    def alive(self) -> None:
        """Raises AssertionError when the process has ended."""
        alive(self.product)

    def _logged(self, full: str, words: tuple[str, ...]) -> str:
        events = [json.loads(line) for line in self.product.text().splitlines() if line.startswith("{")]
        ours = [str(event.get("reason") or event.get("detail")) for event in events if _concerns(full, event)]
        return next((line for line in ours if all(word in line for word in words)), f"nothing in the log: {ours[-3:]}")


def _concerns(full: str, event: dict[str, Any]) -> bool:
    return full == event.get("pipeline") or full in str(event.get("supervisor")).split("/")


def _about(full: str, lines: list[str]) -> str:
    found = [line for line in lines if line.startswith(f"pipeline {full} is ")]
    assert len(found) == 1, lines
    return found[0]
