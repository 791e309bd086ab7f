"""One Kafka Connect worker, standalone, with Debezium's PostgreSQL connector in it."""

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
    from collections.abc import Mapping
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
CONNECTOR = "gold"
START_S = 120.0
_JSON = "org.apache.kafka.connect.json.JsonConverter"


class ConnectWorker:
    """A worker with one connector; its files are in a directory of the caller's."""

    def __init__(self, directory: Path, bootstrap: str, options: Mapping[str, str]) -> None:
        """Start the worker. `options` are the connector's, complete but for its name and class."""
        self._port = free_ports(1)[0]
        connector = {"name": CONNECTOR, "connector.class": "io.debezium.connector.postgresql.PostgresConnector"}
        worker, job = directory / "worker.properties", directory / "connector.json"
        worker.write_text(render(self._settings(directory, bootstrap)))
        job.write_text(json.dumps({"name": CONNECTOR, "config": {**options, **connector}}))
        self.process = ServerProcess(
            "Kafka Connect",
            [
                str(java()), f"-Djava.io.tmpdir={directory}", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-cp", os.pathsep.join(map(str, class_path(JARS))),
                "org.apache.kafka.connect.cli.ConnectStandalone", str(worker), str(job),
            ],
            directory / "connect.log",
        )  # fmt: skip

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
        url = f"http://{HOST}:{self._port}/connectors/{CONNECTOR}/status"
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

    def stop(self) -> None:
        """Stop in good order: what the connector has handed over is then in Kafka."""
        self.process.stop(signal.SIGTERM, 30.0)

    def _settings(self, directory: Path, bootstrap: str) -> dict[str, str]:
        return {
            "bootstrap.servers": bootstrap,
            "listeners": f"http://{HOST}:{self._port}",
            "key.converter": _JSON,
            "value.converter": _JSON,
            "offset.storage.file.filename": str(directory / "offsets"),
            # From the class path, by their service files: looking into every jar takes seconds.
            "plugin.discovery": "service_load",
        }
