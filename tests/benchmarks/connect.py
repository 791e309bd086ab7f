"""One distributed worker of Kafka Connect that stays alive while connectors come and go.

Only a distributed worker writes rows and their offsets in one Kafka transaction; a standalone one refuses to.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Self

from deltaforge.embedded.errors import EmbeddedError
from deltaforge.embedded.ports import HOST, free_ports
from deltaforge.embedded.process import wait_until
from tests.recorder.connect import START_S, launch, task_runs, worker_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OFFSETS = "connect-offsets"
HEAP_MB = 2048
# But for the heap as Kafka's own start script.
_JAVA = (
    "-Xms256m", f"-Xmx{HEAP_MB}m", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
)  # fmt: skip
_ASK_S = 60.0
_PAUSE_S = 0.1
_CONFLICT = 409
"""A rebalance is under way: ask again."""


class DistributedWorker:
    """A group of one worker, started at once; its files are in a directory of the caller's."""

    def __init__(self, directory: Path, bootstrap: str) -> None:
        """Start the worker, and return when it answers."""
        directory.mkdir()
        self._port = free_ports(1)[0]
        self.process = launch(
            directory, _JAVA, ["ConnectDistributed", str(worker_file(directory, bootstrap, self._port, settings()))]
        )
        try:
            wait_until(self._answers, [self.process], threading.Event(), START_S, "Kafka Connect")
        except BaseException:
            self.close()
            raise

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Make a connector, which starts by itself. Raises EmbeddedError when the worker does not take it."""
        self._ask("PUT", f"/connectors/{name}/config", dict(options))

    def delete(self, name: str) -> None:
        """Stop and forget a connector."""
        self._ask("DELETE", f"/connectors/{name}")

    def runs(self, name: str) -> bool:
        """Whether the connector and its task run. Raises EmbeddedError when one of them has failed."""
        return task_runs(self._port, name)

    def close(self) -> None:
        """End the worker; nothing of it is kept."""
        self.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            self._send("GET", "/connectors", None)
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> None:
        deadline = time.monotonic() + _ASK_S
        while True:
            try:
                self._send(method, path, body)
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read().decode(errors="replace")
                if error.code != _CONFLICT or time.monotonic() > deadline:
                    raise EmbeddedError(f"Kafka Connect refuses {method} {path}: {said}") from None
                time.sleep(_PAUSE_S)
            else:
                return

    def _send(self, method: str, path: str, body: Mapping[str, str] | None) -> None:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{HOST}:{self._port}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=_ASK_S):
            pass


def settings() -> dict[str, str]:
    """What makes the worker a group, and its connectors exactly once."""
    return {
        "group.id": "bench-connect",
        "exactly.once.source.support": "enabled",
        "config.storage.topic": "connect-configs",
        "status.storage.topic": "connect-status",
        "offset.storage.topic": OFFSETS,
        **{f"{name}.storage.replication.factor": "1" for name in ("config", "status", "offset")},
        # One, so that there is one place to watch.
        **{f"{name}.storage.partitions": "1" for name in ("status", "offset")},
        "scheduled.rebalance.max.delay.ms": "0",
    }
