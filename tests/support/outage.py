"""What is looked at while a server is away: our process, what it says of itself, and how PostgreSQL sees it."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tests.support.beside import Beside

if TYPE_CHECKING:
    from tests.support.process import Deltaforge

_REPLIES = """select coalesce(extract(epoch from clock_timestamp() - greatest(reply_time, backend_start)), 0)::float8
  from pg_stat_replication where application_name = 'deltaforge'"""


class ReplyAges(Beside):
    """Asks PostgreSQL, five times a second, when each stream last answered. A server that is away is not counted."""

    PERIOD_S = 0.2

    def __init__(self, dsn: str) -> None:
        """Nothing is asked before the `with` block."""
        super().__init__()
        self._dsn = dsn
        self.oldest_s = 0.0
        """The longest that any stream went without a word."""
        self.samples = 0
        """Answers in which there was a stream."""

    def work(self) -> None:
        """Ask whenever the server is there."""
        while not self.stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    self._look(connection)
            except psycopg.OperationalError:
                self.stop.wait(self.PERIOD_S)

    def _look(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        while not self.stop.is_set():
            for (age,) in connection.execute(_REPLIES).fetchall():
                self.samples += 1
                self.oldest_s = max(self.oldest_s, age)
            self.stop.wait(self.PERIOD_S)


@dataclass(frozen=True)
class Resources:
    """What a process holds of the system."""

    threads: int
    descriptors: int
    rss: int
    """Bytes."""


def resources(product: Deltaforge) -> Resources:
    """Count them now."""
    base = Path(f"/proc/{product.pid}")
    return Resources(len(list((base / "task").iterdir())), len(list((base / "fd").iterdir())), product.rss())


def busiest_second(text: str) -> int:
    """The most log lines (JSON, with a time stamp) in any one second."""
    seconds = Counter(json.loads(line)["timestamp"][:19] for line in text.splitlines() if line.startswith("{"))
    return max(seconds.values(), default=0)


def wait_for_epoch(product: Deltaforge, name: str, epoch: int, seconds: float = 60.0) -> None:
    """Block until the pipeline runs in this epoch or a newer one. Raises AssertionError with the end of the log."""
    deadline = time.monotonic() + seconds
    while True:
        view = product.pipeline(name)
        if view["state"] == "running" and view["epoch"] >= epoch:
            return
        assert time.monotonic() < deadline, f"{view['state']} in epoch {view['epoch']}\n{product.tail()}"
        time.sleep(0.05)
