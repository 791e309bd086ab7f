"""Kafka Connect workers with Debezium's PostgreSQL connector in them."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from deltaforge.embedded.errors import EmbeddedError
from deltaforge.embedded.jars import class_path, java
from deltaforge.embedded.kafka_conf import render
from deltaforge.embedded.ports import HOST, free_ports
from deltaforge.embedded.process import ServerProcess, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Debezium asks for a newer Kafka, whose Jetty does not fit: what is named here wins.
JARS = (
    "io.debezium:debezium-connector-postgres:3.7.0.Final",
    *(
        f"org.apache.kafka:{name}:4.1.0"
        for name in ("connect-runtime", "connect-api", "connect-json", "connect-transforms", "kafka-clients")
    ),
    "org.eclipse.jetty.ee10:jetty-ee10-servlet:12.0.22",
    "org.eclipse.jetty:jetty-security:12.0.22",
    "org.slf4j:slf4j-simple:1.7.36",
)
CONNECTOR_CLASS = "io.debezium.connector.postgresql.PostgresConnector"
CONNECTOR = "gold"
START_S = 120.0
_JSON = "org.apache.kafka.connect.json.JsonConverter"
# The classes have to be named again: without them a connector takes the worker's converters and ignores the settings.
NO_SCHEMAS = {
    "key.converter": _JSON,
    "value.converter": _JSON,
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
}
_QUICK_START = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class ConnectWorker:
    """A standalone worker with one connector; its files are in a directory of the caller's."""

    def __init__(self, directory: Path, bootstrap: str, options: Mapping[str, str]) -> None:
        """Start the worker. `options` are the connector's, complete but for its name and class."""
        self._port = free_ports(1)[0]
        connector = {"name": CONNECTOR, "connector.class": CONNECTOR_CLASS}
        job = directory / "connector.json"
        job.write_text(json.dumps({"name": CONNECTOR, "config": {**options, **connector}}))
        settings = {"offset.storage.file.filename": str(directory / "offsets")}
        worker = worker_file(directory, bootstrap, self._port, settings)
        self.process = launch(directory, _QUICK_START, ["ConnectStandalone", str(worker), str(job)])

    def wait_running(self) -> None:
        """Wait until the connector's task runs.

        Raises:
          EmbeddedError: the worker or the task does not start.
        """
        wait_until(self.running, [self.process], threading.Event(), START_S, "Kafka Connect")

    def running(self) -> bool:
        """Whether the task runs by now.

        Raises:
          EmbeddedError: the task has failed; with the connector's own words.
        """
        return task_runs(self._port, CONNECTOR)

    def stop(self) -> None:
        """Stop in good order: what the connector has handed over is then in Kafka."""
        self.process.stop(signal.SIGTERM, 30.0)


def worker_file(directory: Path, bootstrap: str, port: int, settings: Mapping[str, str]) -> Path:
    """Write a worker's properties: `settings`, and what every kind of worker has."""
    file = directory / "worker.properties"
    everywhere = {
        "bootstrap.servers": bootstrap,
        "listeners": f"http://{HOST}:{port}",
        "key.converter": _JSON,
        "value.converter": _JSON,
        # From the class path, by their service files: looking into every jar takes seconds.
        "plugin.discovery": "service_load",
    }
    file.write_text(render({**everywhere, **settings}))
    return file


def launch(directory: Path, java_options: Sequence[str], program: Sequence[str]) -> ServerProcess:
    """Start one of Connect's programs, its jars fetched before when they are not here."""
    jars = os.pathsep.join(map(str, class_path(JARS)))
    name, *arguments = program
    return ServerProcess(
        "Kafka Connect",
        [
            str(java()), f"-Djava.io.tmpdir={directory}", *java_options, "-cp", jars,
            f"org.apache.kafka.connect.cli.{name}", *arguments,
        ],
        directory / "connect.log",
    )  # fmt: skip


def task_runs(port: int, connector: str) -> bool:
    """Whether the connector and its task run by now; false as well while nobody answers.

    Raises:
      EmbeddedError: one of them has failed; with the connector's own words.
    """
    url = f"http://{HOST}:{port}/connectors/{connector}/status"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            status: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return False
    parts = [status["connector"], *status["tasks"]]
    for part in parts:
        if part["state"] == "FAILED":
            raise EmbeddedError(f"the connector failed:\n{part['trace']}")
    return len(parts) > 1 and all(part["state"] == "RUNNING" for part in parts)
