"""A stage of the storm for tests of single faults: its sink and topic as the test wants them, judged at the end."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from tests.nemesis.stage import Servers, Stage
from tests.support.beside import Beside
from tests.support.instances import alive, wait_told
from tests.support.pipelines import kafka_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.ledger.verdict import Verdict
    from tests.support.pipelines import Document


class LoadedStage(Stage):
    """Servers behind their proxies, one pipeline, writers that do everything, and a reader."""

    def __init__(self, servers: Servers, name: str, seed: int, directory: Path, **sink: Any) -> None:
        """Nothing happens before the `with` block. `name` is made unique; `sink` replaces settings of the sink."""
        super().__init__(servers, f"{name}-{uuid.uuid4().hex[:8]}", seed, directory)
        self._sink = sink

    def document(self) -> Document:
        """The pipeline, with what the test wants of the sink."""
        document = super().document()
        client = self._sink.get("client_conf", {})
        config = kafka_config(document)
        config.update({**self._sink, "client_conf": {**config["client_conf"], **client}})
        return document

    # ---- looking

    def alive(self) -> None:
        """Raises AssertionError with the end of the log when the process has ended."""
        alive(self.product)

    def view(self) -> Mapping[str, Any]:
        """What the process says of the pipeline."""
        return self.product.pipeline(self.name)

    def wait_told(self, state: str, *words: str) -> str:
        """Wait until the pipeline is in that state for that reason. Returns all of the reason."""
        return wait_told(self.product, self.name, state, *words)

    def confirmed(self) -> str:
        """What PostgreSQL was told."""
        query = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s"
        return str(self.database.value(query, [self.subject.slot]))

    def end_stream(self) -> None:
        """Let the server end the stream, so that a new epoch begins."""
        self.database.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s",
            [self.subject.slot],
        )

    def crashes(self) -> int:
        """Crashes of actors so far: what the outside does is not to count as one."""
        return int(self.product.metric("deltaforge_actor_restarts_total"))

    def aborts(self) -> int:
        """Epochs of the sink that were given up so far."""
        return int(self.product.metric("deltaforge_sink_transactions_aborted_total"))

    # ---- the end

    def settle(self, *, split: bool = False) -> Verdict:
        """Let writers end and the pipeline drain, end the process, and judge everything that can be known of the run.

        Args: split: whether a source transaction may lie in several Kafka transactions.
        """
        self.load.stop()
        expected = self.load.expected()
        self.witness.settle(expected)
        assert self.crashes() == 0, self.product.tail()
        assert self.product.term() == 0, self.product.tail()
        return self.witness.judge(expected, split=split)


class Counting(Protocol):
    """A reader that counts what it has seen."""

    @property
    def count(self) -> int:
        """Records so far."""
        ...


class Gaps(Beside):
    """How long readers waited for the next event, looked at fifty times a second."""

    _PERIOD_S = 0.02

    def __init__(self, reader: Counting) -> None:
        """Nothing is looked at before the `with` block."""
        super().__init__()
        self._reader = reader
        self.seconds: list[float] = []

    @property
    def longest_s(self) -> float:
        """The longest wait."""
        return max(self.seconds, default=0.0)

    def work(self) -> None:
        """Note when the count grows."""
        count, since = self._reader.count, time.monotonic()
        while not self.stop.wait(self._PERIOD_S):
            if self._reader.count != count:
                now = time.monotonic()
                self.seconds.append(now - since)
                count, since = self._reader.count, now
