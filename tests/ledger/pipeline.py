"""The pipeline that the ledger runs through, and the names by which it is watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.ledger.rows import EXAMPLE, LEDGER
from tests.support.pipelines import kafka_config, local

if TYPE_CHECKING:
    from tests.support.pipelines import Document

SINK = "orders-kafka"


@dataclass(frozen=True)
class Subject:
    """One pipeline with one Kafka sink, as it looks from outside."""

    name: str
    topics: tuple[str, ...]
    slot: str
    sink: str = SINK

    @property
    def checkpoints(self) -> str:
        """The topic that holds its position."""
        return f"_deltaforge.{self.name}.{self.sink}"

    @property
    def transactional_id(self) -> str:
        """Under which it writes."""
        return f"deltaforge.{self.name}.{self.sink}"


def subject_of(document: Document) -> Subject:
    """The names in a pipeline file whose topic is no template."""
    spec = document["spec"]
    slot, sink = spec["source"]["config"]["slot"], kafka_config(document)
    return Subject(document["metadata"]["name"], (sink["topic"],), slot, sink["id"])


def ledger(name: str, topic: str, **sink: Any) -> Document:
    """The example's pipeline over all tables of the ledger, each record with its position.

    Args: sink: further fields of the Kafka sink.
    """
    document = local(name, topic)
    document["spec"]["source"]["config"]["tables"] = [f"public.{table}" for table in EXAMPLE + LEDGER]
    kafka_config(document).update({"position_headers": True, **sink})
    return document
