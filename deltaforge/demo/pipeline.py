"""The demo's pipeline: the example's file without its security keys, run as a user would run it."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import urllib.request
from typing import TYPE_CHECKING, Self

from deltaforge.demo.errors import DemoFailed
from deltaforge.embedded.process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

NAME = "orders-to-kafka-prod"
TOPIC = "orders.cdc.events"
STOP_S = 30.0

PIPELINE = """\
# examples/kafka-prod.yaml without its security keys: these servers ask nobody who he is.
apiVersion: deltaforge/v1
kind: Pipeline
metadata:
  name: orders-to-kafka-prod
  tenant: acme

spec:
  source:
    type: postgres
    config:
      id: orders-postgres
      dsn: ${POSTGRES_DSN}
      slot: deltaforge_orders
      publication: orders_pub
      tables:
        - public.orders
        - public.order_items
        - public.payments
      start_position: earliest

  sinks:
    - type: kafka
      config:
        id: orders-kafka
        brokers: ${KAFKA_BROKERS}
        topic: orders.cdc.events
        envelope:
          type: debezium
        encoding: json
        required: true
        exactly_once: true
        send_timeout_secs: 60
        client_conf:
          acks: "all"
          enable.idempotence: "true"
          retries: "2147483647"
          retry.backoff.ms: "100"
          delivery.timeout.ms: "300000"
          request.timeout.ms: "30000"
          batch.size: "65536"
          linger.ms: "10"
          compression.type: "lz4"
          queue.buffering.max.messages: "100000"
          queue.buffering.max.kbytes: "1048576"

  batch:
    max_events: 1000
    max_bytes: 1048576
    max_ms: 100
    respect_source_tx: true
    max_inflight: 4

  commit_policy:
    mode: required
"""


class PipelineProcess:
    """`python -m deltaforge FILE` as a process of its own."""

    def __init__(self, folder: Path, dsn: str, bootstrap: str, api_addr: str) -> None:
        self.file = folder / "kafka-demo.yaml"
        self.file.write_text(PIPELINE)
        self._ready = f"http://{api_addr}/ready"
        self._process = ServerProcess(
            "the pipeline",
            [sys.executable, "-m", "deltaforge", str(self.file), "--api-addr", api_addr],
            folder / "deltaforge.log",
            cleanup=folder,
            environment={**os.environ, "POSTGRES_DSN": dsn, "KAFKA_BROKERS": bootstrap},
        )

    @property
    def running(self) -> bool:
        return self._process.running

    def ready(self) -> bool:
        """Whether it streams, or would if there were anything."""
        try:
            with urllib.request.urlopen(self._ready, timeout=5):  # noqa: S310 - our own http:// address
                return True
        except (OSError, http.client.HTTPException):
            return False

    def tail(self) -> str:
        """The end of its log."""
        return self._process.tail()

    def stop(self) -> None:
        """Let it drain; raises DemoFailed when it does not end by itself."""
        if not self._process.stop(signal.SIGTERM, STOP_S):
            raise DemoFailed(f"the pipeline did not end by itself; its log ends so:\n{self.tail()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
