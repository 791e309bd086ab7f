"""Real Kafka clusters, each started on first use and once per session."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.embedded.errors import DemoPackagesMissing, EmbeddedError
from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.kafka_conf import Listener
from deltaforge.embedded.prepare import prepare
from tests.support.available import unavailable
from tests.support.kafka_clients import SCRAM_PASSWORD, SCRAM_USER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.fix_tls import Certificates


@pytest.fixture(scope="session")
def kafka_jars() -> None:
    """Kafka's jars are here, fetched when need be and the network allows; and the archive that makes it start fast."""
    try:
        prepare(lambda _: None)
    except (DemoPackagesMissing, EmbeddedError) as error:
        unavailable(error)


@pytest.fixture(scope="session")
def kafka(kafka_jars: None) -> Iterator[KafkaCluster]:
    """One node, PLAINTEXT."""
    with KafkaCluster(1) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def kafka3(kafka_jars: None, certificates: Certificates) -> Iterator[KafkaCluster]:
    """Three nodes, replication factor 3, min.insync.replicas 2, every listener; see `kafka_clients` for settings."""
    everything = (Listener.SASL, Listener.MTLS, Listener.OAUTH)
    users = {SCRAM_USER: SCRAM_PASSWORD}
    with KafkaCluster(3, listeners=everything, tls=certificates.server, scram_users=users) as cluster:
        yield cluster


@pytest.fixture
def make_kafka(kafka_jars: None) -> Iterator[Callable[..., KafkaCluster]]:
    """Makes clusters of the test's own, not started; takes the arguments of `KafkaCluster`, closes all at the end."""
    made: list[KafkaCluster] = []

    def make(*arguments: Any, **settings: Any) -> KafkaCluster:
        made.append(KafkaCluster(*arguments, **settings))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def topic_prefix() -> str:
    """A start for topic names that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"
