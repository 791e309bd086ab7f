"""A small valid pipeline file to break in one place at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deltaforge.config import secret
from deltaforge.config.load import LoadedPipeline, load_bytes
from deltaforge.sinks.kafka.client_conf import check_client_conf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MINIMAL = """\
apiVersion: deltaforge/v1
kind: Pipeline
metadata:
  name: orders
  tenant: acme
spec:
  source:
    type: postgres
    config:
      id: pg
      dsn: postgres://u:canary-dsn-pw@db:5432/orders
      slot: df_orders
      publication: pub
      tables: [public.orders]
  sinks:
    - type: kafka
      config:
        id: k1
        brokers: kafka:9092
        topic: orders.cdc
        client_conf:
          linger.ms: 5
  batch:
    max_events: 10
"""


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """The register lives as long as the process; hundreds of made-up secrets must not cover other tests' texts."""
    in_use, forms = set(secret._in_use), list(secret._forms)
    yield
    secret._in_use.clear()
    secret._in_use.update(in_use)
    secret._forms[:] = forms


@pytest.fixture
def minimal() -> str:
    return MINIMAL


@pytest.fixture
def load() -> Callable[..., LoadedPipeline]:
    """load(text, NAME=value, ...) reads a file's text as the command line does."""

    def load_text(text: str | bytes, **env: str) -> LoadedPipeline:
        data = text.encode() if isinstance(text, str) else text
        return load_bytes(data, Path("p.yaml"), env, sink_checks=[check_client_conf])

    return load_text


@pytest.fixture
def problems(load: Callable[..., LoadedPipeline]) -> Callable[..., list[str]]:
    """The problems of a text as `line: where: message (hint)`; [] when it loads."""

    def list_problems(text: str | bytes, **env: str) -> list[str]:
        error = load(text, **env).error
        if error is None:
            return []
        return [f"{p.line}: {p.text().partition(' ')[2]}" for p in error.problems]

    return list_problems
