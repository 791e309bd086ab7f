"""Which client is asked when one of them cannot ask. With real servers: tests/integration/test_cluster_questions.py."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from deltaforge.errors import TransientError
from deltaforge.sinks.kafka import cluster
from deltaforge.sinks.kafka.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

FOUND = object()


class Admin:
    """Answers every question in the same way: with an error, or with what was asked for."""

    made = 0
    errors: Sequence[int | None] = ()
    """Of the first client, the second, ..."""

    def __init__(self, properties: object) -> None:
        self._error = Admin.errors[Admin.made]
        Admin.made += 1

    def poll(self, seconds: float) -> None:
        pass

    def describe_topics(self, names: Any, request_timeout: float) -> dict[str, Future[object]]:
        answer = Future[object]()
        if self._error is None:
            answer.set_result(FOUND)
        else:
            answer.set_exception(KafkaException(KafkaError(self._error)))
        return {"t": answer}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster whose clients are of that kind."""
    monkeypatch.setattr(cluster, "AdminClient", Admin)
    monkeypatch.setattr(Admin, "made", 0)
    return Cluster({"bootstrap.servers": "b:9092"})


@pytest.mark.parametrize("name", ["_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "UNKNOWN_LEADER_EPOCH"])
async def test_a_client_that_could_not_ask_is_not_asked_again(
    asked: Cluster, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Guards against minutes without a controller, because the cluster had none when the client looked."""
    monkeypatch.setattr(Admin, "errors", (getattr(KafkaError, name), None))
    with pytest.raises(TransientError):
        await asked.describe("t")
    assert await asked.describe("t") is FOUND
    assert Admin.made == 2


async def test_a_client_that_was_answered_is_kept(asked: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a login for every question about a topic that does not exist."""
    monkeypatch.setattr(Admin, "errors", (KafkaError.UNKNOWN_TOPIC_OR_PART, None))
    assert await asked.describe("t") is None
    assert await asked.describe("t") is None
    assert Admin.made == 1
